"""Uploads: files that come in piece by piece, and count once all of them is here."""

import hashlib
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

from sqlalchemy import and_, delete, or_
from sqlmodel import col, select

from core.ids import new_id
from db import BUSINESS, Database, Query, Transaction, among, command, param, query
from models import Actor, Upload, UploadChunk
from models.base import UtcTimestamp

MOST_BYTES = 20 * 2**20
CHUNK = 256 * 2**10
TEXT = "text/csv"
KEPT = timedelta(days=7)
"""How long a file of customers is kept that nothing was done with."""
COMING = timedelta(hours=6)
"""A file that did not come in whole by then will not."""

_CHUNK = query(
    select(UploadChunk.data).where(
        col(UploadChunk.business_id) == BUSINESS,
        col(UploadChunk.upload_id) == param("upload_id"),
        col(UploadChunk.position) == param("position"),
    )
)
_DROP_CHUNKS = command(
    delete(UploadChunk).where(
        col(UploadChunk.business_id) == BUSINESS, among(col(UploadChunk.upload_id), "ids")
    )
)
_DROP = command(
    delete(Upload).where(col(Upload.business_id) == BUSINESS, col(Upload.id) == param("id"))
)
_TEXTS = query(
    select(Upload).where(
        col(Upload.business_id) == BUSINESS,
        col(Upload.is_public).is_(False),
        col(Upload.emptied_at).is_(None),
    )
)

# A picture is asked for by its hash alone, before a business is known: in the name of the system.
_PICTURE: Query[Upload] = query(
    select(Upload)
    .where(
        col(Upload.sha256) == param("sha256"),
        col(Upload.is_public).is_(True),
        col(Upload.completed_at).is_not(None),
    )
    .order_by(col(Upload.id))
    .limit(1)
)

# Files whose time is over, in any business: in the name of the system.
_OVER: Query[Upload] = query(
    select(Upload)
    .where(
        col(Upload.emptied_at).is_(None),
        or_(
            and_(
                col(Upload.is_public).is_(False),
                col(Upload.created_at) < param("kept", UtcTimestamp()),
            ),
            and_(
                col(Upload.completed_at).is_(None),
                col(Upload.created_at) < param("coming", UtcTimestamp()),
            ),
        ),
    )
    .order_by(col(Upload.created_at))
    .limit(20)
)


async def store_file(
    database: Database,
    actor: Actor,
    pieces: AsyncIterator[bytes],
    media_type: str,
    now: datetime,
    *,
    is_public: bool = False,
) -> Upload:
    """Store a file as it comes in, a short transaction for each 256 KiB.

    Whatever breaks it off leaves nothing; a process that dies leaves what housekeeping removes.
    """
    upload = Upload(
        id=new_id("up"),
        business_id=actor.business_id,
        media_type=media_type,
        is_public=is_public,
        created_at=now,
        created_by_id=actor.staff_id,
    )
    digest, position = hashlib.sha256(), 0

    async def add(data: bytes) -> None:
        chunk = UploadChunk(
            upload_id=upload.id, position=position, business_id=upload.business_id, data=data
        )
        await database.write(upload.business_id, lambda tx: tx.add(chunk))

    await database.write(upload.business_id, lambda tx: tx.add(upload))
    try:
        size, waiting = 0, bytearray()
        async for piece in pieces:
            digest.update(piece)
            size += len(piece)
            waiting += piece
            while len(waiting) >= CHUNK:
                await add(bytes(waiting[:CHUNK]))
                del waiting[:CHUNK]
                position += 1
        if waiting:
            await add(bytes(waiting))
        told = {"size": size, "sha256": digest.hexdigest(), "completed_at": now}
        return await database.write(upload.business_id, lambda tx: tx.change(upload, **told))
    except BaseException:
        await database.write(upload.business_id, lambda tx: _remove(tx, upload))
        raise


async def store_text(tx: Transaction, actor: Actor, text: str, now: datetime) -> Upload:
    """Store a short text as a file that came in, in one transaction."""
    data = text.encode()
    upload = Upload(
        id=new_id("up"),
        business_id=actor.business_id,
        media_type=TEXT,
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        created_at=now,
        created_by_id=actor.staff_id,
        completed_at=now,
    )
    await tx.add(upload)
    for position, start in enumerate(range(0, len(data), CHUNK)):
        await tx.add(
            UploadChunk(
                upload_id=upload.id,
                position=position,
                business_id=upload.business_id,
                data=data[start : start + CHUNK],
            )
        )
    return upload


async def chunks_of(database: Database, upload: Upload) -> AsyncIterator[bytes]:
    """The bytes of a file, one chunk at a time."""
    for position in range(-(-upload.size // CHUNK)):

        async def read(tx: Transaction, position: int = position) -> bytes | None:
            return await tx.maybe(_CHUNK, upload_id=upload.id, position=position)

        data = await database.read(upload.business_id, read)
        if data is None:  # it was emptied meanwhile
            raise LookupError(upload.id)
        yield data


async def empty(tx: Transaction, upload: Upload, now: datetime) -> Upload:
    """Throw the bytes of a file away; the row stays, and says that there was one."""
    await tx.run(_DROP_CHUNKS, ids=[upload.id])
    return await tx.change(upload, emptied_at=now, sha256=None)


async def empty_texts(tx: Transaction, now: datetime) -> None:
    """Throw away every file of customers of this business."""
    for upload in await tx.many(_TEXTS):
        await empty(tx, upload, now)


async def public_picture(tx: Transaction, sha256: str) -> Upload | None:
    """The picture with this hash, in any business. Runs in the name of the system."""
    return await tx.maybe(_PICTURE, sha256=sha256)


async def empty_old_files(database: Database, now: datetime) -> int:
    """Throw away files whose time is over; says how many. `now` is real time."""

    async def find(tx: Transaction) -> list[Upload]:
        return await tx.many(_OVER, kept=now - KEPT, coming=now - COMING)

    emptied = 0
    while found := await database.read(None, find):
        for upload in found:

            async def work(tx: Transaction, upload: Upload = upload) -> None:
                if upload.completed_at is None:
                    await _remove(tx, upload)
                else:
                    await empty(tx, upload, now)

            await database.write(upload.business_id, work)
            emptied += 1
    return emptied


async def _remove(tx: Transaction, upload: Upload) -> None:
    await tx.run(_DROP_CHUNKS, ids=[upload.id])
    await tx.run(_DROP, id=upload.id)
