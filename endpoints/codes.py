"""Codes as pictures: a voucher's redeem code as QR code or barcode, its token as QR code.

Whoever has the voucher's token may see them: it is as unguessable as a key, and is not logged.
"""

import asyncio
import hashlib
import io
from functools import lru_cache
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from models import Voucher
from resolvers.context import Deployment
from services.tokens import voucher_by_token

_MEDIA_TYPES = {"svg": "image/svg+xml", "png": "image/png"}
_FORMATS = ("qr", "barcode", "token")
_HEADERS = {
    "Cache-Control": "private, max-age=3600",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "Referrer-Policy": "no-referrer",
}
# Phones read a module of ten pixels from any screen; the quiet zones are those of the standards
# (ISO 18004: four modules, ISO 15417: ten).
_QR_SCALE, _QR_QUIET = 10, 4
_BAR_SCALE, _BAR_QUIET, _BAR_HEIGHT = 3, 10, 50


async def show_code(request: Request) -> Response:
    """A picture of a voucher's code.

    404 for an unknown token and for what cannot be shown so: no code, or one that a barcode
    cannot hold.
    """
    kind, shape = request.path_params["kind"], request.query_params.get("format", "qr")
    if kind not in _MEDIA_TYPES:
        return _no(404, "There is no such picture.")
    if shape not in _FORMATS:
        return _no(400, "The format is qr, barcode or token.")
    deployment: Deployment = request.app.state.deployment
    token = request.path_params["token"]
    voucher = await deployment.database.read(None, lambda tx: voucher_by_token(tx, token))
    text = _text_of(voucher, shape) if voucher else None
    if text is None:
        return _no(404, "There is no such picture.")
    return await picture_answer(request, text, kind, is_barcode=shape == "barcode")


async def picture_answer(
    request: Request, text: str, kind: str, *, is_barcode: bool = False
) -> Response:
    """A text as a picture; 304 where the browser has it, 404 for a kind we do not draw."""
    if kind not in _MEDIA_TYPES:
        return _no(404, "There is no such picture.")
    said = f"{kind} {'barcode' if is_barcode else 'qr'} {text}"
    tag = f'"{hashlib.sha256(said.encode()).hexdigest()[:32]}"'
    headers = {**_HEADERS, "ETag": tag}
    if _is_known(request, tag):
        return Response(status_code=304, headers=headers)
    picture = await asyncio.to_thread(picture_of, text, kind, is_barcode=is_barcode)
    return Response(picture, media_type=_MEDIA_TYPES[kind], headers=headers)


@lru_cache(512)
def picture_of(text: str, kind: str, *, is_barcode: bool = False) -> bytes:
    """The text as a QR code or a barcode (Code 128), as `svg` or `png`, dark on white."""
    return _barcode(text, kind) if is_barcode else _qr_code(text, kind)


def _text_of(voucher: Voucher, shape: str) -> str | None:
    """What the picture says, None where there is nothing to show."""
    if shape == "token":
        return voucher.token
    code = voucher.redeem_code
    if shape == "barcode" and code is not None and not (code.isascii() and code.isprintable()):
        return None
    return code


def _qr_code(text: str, kind: str) -> bytes:
    import segno  # noqa: PLC0415 -- the first picture loads it, not every start

    # Micro QR codes are shorter, but phones do not read them.
    code = segno.make(text, error="m", micro=False)
    out = io.BytesIO()
    # With a unit segno also writes the viewBox that lets a page scale the picture.
    more = {"xmldecl": False, "nl": False, "unit": "px"} if kind == "svg" else {}
    code.save(out, kind=kind, scale=_QR_SCALE, border=_QR_QUIET, light="#fff", **more)
    return out.getvalue()


def _barcode(text: str, kind: str) -> bytes:
    import zxingcpp  # noqa: PLC0415 -- as above
    from segno.writers import save  # type: ignore[attr-defined]  # noqa: PLC0415 -- untyped

    barcode = zxingcpp.create_barcode(text, zxingcpp.BarcodeFormat.Code128)
    image: Any = zxingcpp.write_barcode_to_image(barcode, add_quiet_zones=False)
    width = image.shape[1]
    row = bytearray(pixel == 0 for pixel in memoryview(image).tobytes()[:width])
    if kind == "svg":
        return _bars(row)
    out = io.BytesIO()
    # zxing-cpp hands out pixels, and writes no PNG; segno's writer takes any such matrix.
    size = (width, _BAR_HEIGHT)
    save([row] * _BAR_HEIGHT, size, out, kind="png", scale=_BAR_SCALE, border=_BAR_QUIET)
    return out.getvalue()


def _bars(row: bytearray) -> bytes:
    """The bars as SVG, which zxing-cpp writes without the viewBox that lets a page scale it."""
    width, height = len(row) + 2 * _BAR_QUIET, _BAR_HEIGHT + 2 * _BAR_QUIET
    bars = "".join(
        f"M{place + _BAR_QUIET} {_BAR_QUIET}h1v{_BAR_HEIGHT}h-1z"
        for place, is_dark in enumerate(row)
        if is_dark
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width * _BAR_SCALE}" '
        f'height="{height * _BAR_SCALE}" viewBox="0 0 {width} {height}" '
        f'shape-rendering="crispEdges"><path fill="#fff" d="M0 0h{width}v{height}h-{width}z"/>'
        f'<path d="{bars}"/></svg>'
    ).encode()


def _is_known(request: Request, tag: str) -> bool:
    """Whether the caller has this picture already (If-None-Match)."""
    told = request.headers.get("if-none-match", "")
    return any(word.strip().removeprefix("W/") in (tag, "*") for word in told.split(","))


def _no(status: int, message: str) -> Response:
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return PlainTextResponse(message, status_code=status, headers=headers)
