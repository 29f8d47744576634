"""Uploads: files of customers and pictures come in here, and pictures go out by their hash."""

import asyncio
import codecs
import re
from collections.abc import AsyncIterator
from tempfile import SpooledTemporaryFile

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from core.errors import Invalid
from endpoints.answers import BadRequest, answering, json_answer, pieces_of
from models import Upload
from models.imports import PICTURES
from resolvers.context import Context, Deployment
from services.operation import MANAGERS, allow
from services.pictures import drawn_again, picture_type
from services.uploads import MOST_BYTES, TEXT, chunks_of, public_picture, store_file

_HASH = re.compile(r"[0-9a-f]{64}")
_HEAD = 16
_IN_MEMORY = 131_072
"""What of a picture is held in memory while it comes in; the rest waits in a temporary file."""
_MEDIA_TYPES = {extension: media_type for media_type, extension in PICTURES.items()}
_FOR_EVER = {
    "Cache-Control": "public, max-age=31536000, immutable",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "cross-origin",
}
_drawing = asyncio.Semaphore(1)
"""One picture at a time: unpacked, it takes some hundred megabytes."""


@answering
async def create_upload(request: Request, context: Context) -> Response:
    """Take a file, which is the body itself: a CSV file in UTF-8, or a PNG, JPEG or WEBP picture.

    What it is, its first bytes say. 201 with `{id, mediaType, size}`, and the `url` of a picture;
    413 beyond 20 MB, 415 for anything else. Roles: OWNER, MANAGER.
    """
    allow(context.actor, MANAGERS)
    if request.headers.get("content-type", "").startswith("multipart/"):
        raise BadRequest(415, "Send the file itself as the body, not a form.")
    upload = await _take(request, context)
    told = {"id": upload.id, "mediaType": upload.media_type, "size": upload.size}
    if upload.path is not None:
        told["url"] = f"{context.deployment.settings.url}{upload.path}"
    return json_answer(told, 201)


async def show_image(request: Request) -> Response:
    """A picture that was uploaded; what is behind a hash never changes."""
    deployment: Deployment = request.app.state.deployment
    name, extension = request.path_params["sha256"], request.path_params["extension"]
    upload = None
    if _HASH.fullmatch(name) and extension in _MEDIA_TYPES:
        upload = await deployment.database.read(None, lambda tx: public_picture(tx, name))
    if upload is None or upload.media_type != _MEDIA_TYPES[extension]:
        return PlainTextResponse(
            "There is no such picture.", status_code=404, headers={"Cache-Control": "no-store"}
        )
    headers = {**_FOR_EVER, "ETag": f'"{name}"'}
    if name in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return StreamingResponse(
        chunks_of(deployment.database, upload),
        media_type=upload.media_type,
        headers={**headers, "Content-Length": str(upload.size)},
    )


async def _take(request: Request, context: Context) -> Upload:
    pieces = pieces_of(request, MOST_BYTES, "A file")
    head = bytearray()
    async for piece in pieces:
        head += piece
        if len(head) >= _HEAD:
            break
    if not head:
        raise Invalid("The file is empty.")
    database, actor = context.deployment.database, context.actor
    now = context.deployment.clock.now()
    media_type = picture_type(bytes(head))
    if media_type is None:
        return await store_file(database, actor, _text(_joined(bytes(head), pieces)), TEXT, now)
    with SpooledTemporaryFile(_IN_MEMORY) as kept:
        kept.write(head)
        async for piece in pieces:
            kept.write(piece)
        async with _drawing:
            kept.seek(0)
            drawn = await asyncio.to_thread(drawn_again, kept.read(), media_type)
    return await store_file(database, actor, _one(drawn), media_type, now, is_public=True)


async def _joined(head: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield head
    async for piece in pieces:
        yield piece


async def _one(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _text(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The pieces, as long as they are text."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        async for piece in pieces:
            if b"\x00" in piece:
                raise BadRequest(415, "This is neither text nor a PNG, JPEG or WEBP picture.")
            decoder.decode(piece)
            yield piece
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise BadRequest(
            415, "This is neither text in UTF-8 nor a PNG, JPEG or WEBP picture."
        ) from None
