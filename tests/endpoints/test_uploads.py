"""Uploads: what is taken, what is refused, and what is served of it."""

import asyncio
import io
import struct
import zlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from PIL import Image, PngImagePlugin
from sqlmodel import select

from core.clock import ManualClock
from core.secrets import Secrets
from db import Database, query
from factories import Cafe, a_business, a_staff, an_api_key
from models import Role, Upload, UploadChunk
from processes import RunningServer
from services.pictures import MAX_PIXELS
from services.uploads import CHUNK, MOST_BYTES, empty_old_files

_UPLOADS, _CHUNKS = query(select(Upload)), query(select(UploadChunk.upload_id))
CSV = b"name,email\nAna,ana@example.com\n"


@pytest.fixture
async def owner(cafe: Cafe, server: RunningServer) -> AsyncIterator[httpx2.AsyncClient]:
    """The owner's client."""
    headers = {"authorization": f"Bearer {cafe.api_key}"}
    async with httpx2.AsyncClient(base_url=server.url, headers=headers) as client:
        yield client


def a_picture(kind: str = "PNG", size: tuple[int, int] = (64, 48), **options: Any) -> bytes:
    """A picture in some colours."""
    out = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert("RGB").save(out, kind, **options)
    return out.getvalue()


async def _stored(database: Database) -> tuple[list[Upload], list[str]]:
    async def work(tx: Any) -> Any:
        return await tx.many(_UPLOADS), await tx.many(_CHUNKS)

    return await database.read(None, work)


async def test_a_file_of_customers_is_kept_in_chunks_and_not_served(
    owner: httpx2.AsyncClient, database: Database
) -> None:
    body = CSV + b"x" * CHUNK

    answer = await owner.post("/uploads", content=body)

    told = answer.json()
    [upload], chunks = await _stored(database)
    assert (answer.status_code, told) == (
        201,
        {"id": upload.id, "mediaType": "text/csv", "size": len(body)},
    )
    assert (upload.is_usable, upload.is_public, len(chunks)) == (True, False, 2)
    assert (await owner.get(f"/images/{upload.sha256}.png")).status_code == 404


@pytest.mark.parametrize(
    ("kind", "media_type"), [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp")]
)
async def test_a_picture_is_served_by_its_hash_for_ever(
    owner: httpx2.AsyncClient, http: httpx2.AsyncClient, kind: str, media_type: str
) -> None:
    told = (await owner.post("/uploads", content=a_picture(kind))).json()

    shown = await http.get(told["url"])
    again = await http.get(told["url"], headers={"if-none-match": shown.headers["etag"]})
    other = await http.get(told["url"].rpartition(".")[0] + ".gif")

    assert told["mediaType"] == media_type
    assert (shown.status_code, shown.headers["content-type"]) == (200, media_type)
    assert shown.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert shown.headers["x-content-type-options"] == "nosniff"
    assert len(shown.content) == told["size"] == int(shown.headers["content-length"])
    assert Image.open(io.BytesIO(shown.content)).size == (64, 48)
    assert (again.status_code, again.content) == (304, b"")
    assert other.status_code == 404


async def test_a_picture_keeps_nothing_but_its_pixels(
    owner: httpx2.AsyncClient, http: httpx2.AsyncClient
) -> None:
    words = PngImagePlugin.PngInfo()
    words.add_text("Author", "Siti Nurhaliza")
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = "Siti Nurhaliza", 6  # a description; turned to the right
    pictures = [
        a_picture("PNG", pnginfo=words, exif=exif) + b"<script>Siti Nurhaliza</script>",
        a_picture("JPEG", exif=exif, comment=b"Siti Nurhaliza") + b"Siti Nurhaliza",
        a_picture("WEBP", exif=exif, xmp=b"Siti Nurhaliza"),
    ]

    told = [(await owner.post("/uploads", content=picture)).json() for picture in pictures]
    shown = [(await http.get(item["url"])).content for item in told]

    assert all(b"Siti" in picture for picture in pictures)
    assert not any(b"Siti" in picture for picture in shown)
    assert [Image.open(io.BytesIO(picture)).size for picture in shown] == [(48, 64)] * 3


async def test_a_large_picture_is_made_smaller(
    owner: httpx2.AsyncClient, http: httpx2.AsyncClient
) -> None:
    told = (await owner.post("/uploads", content=a_picture("PNG", (3000, 1500)))).json()
    shown = await http.get(told["url"])

    assert Image.open(io.BytesIO(shown.content)).size == (2000, 1000)


async def test_what_is_transparent_stays_so(
    owner: httpx2.AsyncClient, http: httpx2.AsyncClient
) -> None:
    out = io.BytesIO()
    Image.new("RGBA", (10, 10), (255, 0, 0, 0)).save(out, "PNG")

    told = (await owner.post("/uploads", content=out.getvalue())).json()
    shown = Image.open(io.BytesIO((await http.get(told["url"])).content))

    assert (shown.mode, shown.getpixel((5, 5))[3]) == ("RGBA", 0)


def _bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that unpacks to gigabytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    data = zlib.compress(bytes(1_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


async def test_hostile_files_are_refused_and_leave_nothing(
    owner: httpx2.AsyncClient, database: Database
) -> None:
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    files = {
        "a bomb": (_bomb(60_000, 60_000), 422),
        "too many pixels": (_bomb(MAX_PIXELS // 5_000 + 1, 5_000), 422),
        "a broken picture": (a_picture()[:100], 422),
        "a lying head": (b"\x89PNG\r\n\x1a\n" + CSV, 422),
        "an executable": (b"\x7fELF" + bytes(100), 415),
        "a zip": (b"PK\x03\x04\xff\xfe" * 10, 415),
        "latin-1": ("name,email\nJosé,j@example.com\n".encode("latin-1"), 415),
        "utf-16": ("name,email\n".encode("utf-16"), 415),
        "a NUL": (CSV + b"\x00" + CSV, 415),
        "half a letter": (CSV + "é".encode()[:1], 415),
        "a gif": (b"GIF89a\x01\x00\x01\x00\x80\x00\x00", 415),
        "nothing": (b"", 422),
    }

    answers = {
        name: (await owner.post("/uploads", content=data)).status_code
        for name, (data, _) in files.items()
    }
    form = await owner.post("/uploads", files={"file": CSV})
    drawn = (await owner.post("/uploads", content=svg)).json()

    assert answers == {name: status for name, (_, status) in files.items()}
    assert form.status_code == 415
    assert drawn["mediaType"] == "text/csv"  # text, and nobody is ever served it
    uploads, chunks = await _stored(database)
    assert [upload.id for upload in uploads] == [drawn["id"]]
    assert chunks == [drawn["id"]]


async def test_a_file_beyond_the_limit_is_cut_off_and_leaves_nothing(
    owner: httpx2.AsyncClient, database: Database
) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(MOST_BYTES // 2**20 + 2):
            yield b"a,b,c,d\n" * 2**17

    answer = await owner.post("/uploads", content=endless())

    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "BAD_REQUEST")
    assert await _stored(database) == ([], [])


async def test_a_file_that_breaks_off_leaves_nothing(
    cafe: Cafe, server: RunningServer, database: Database
) -> None:
    host, _, port = server.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /uploads HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {cafe.api_key}\r\n"
    writer.write(f"{head}content-length: 1000000\r\n\r\n".encode() + CSV * 20_000)
    await writer.drain()
    begun = await _until(database, lambda stored: bool(stored[1]))
    writer.close()

    assert begun
    assert await _until(database, lambda stored: stored == ([], []))
    assert await reader.read() == b""


async def _until(database: Database, holds: Any) -> bool:
    """Whether it holds before long."""
    for _ in range(500):
        if holds(await _stored(database)):
            return True
        await asyncio.sleep(0.01)
    return False


async def test_only_owners_and_managers_upload(
    cafe: Cafe, server: RunningServer, database: Database, clock: ManualClock
) -> None:
    secrets: Secrets = server.app.state.deployment.secrets
    statuses = []
    keys = [None, "7loc_sc_nonsense"]
    for role in (Role.SCANNER, Role.MANAGER):
        actor = await a_staff(database, cafe.owner, role, clock.now())
        assert actor.staff
        keys.append(await an_api_key(database, cafe.owner, actor.staff, secrets, clock.now()))
    for key in keys:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        async with httpx2.AsyncClient(base_url=server.url, headers=headers) as client:
            statuses.append((await client.post("/uploads", content=CSV)).status_code)

    assert statuses == [401, 401, 403, 201]
    assert len((await _stored(database))[0]) == 1


async def test_two_businesses_with_one_picture_have_one_each(
    owner: httpx2.AsyncClient, http: httpx2.AsyncClient, server: RunningServer, database: Database
) -> None:
    other = await a_business(database, server.app.state.deployment.secrets)
    headers = {"authorization": f"Bearer {other.api_key}"}

    ours = (await owner.post("/uploads", content=a_picture())).json()
    theirs = (await http.post("/uploads", content=a_picture(), headers=headers)).json()

    assert ours["id"] != theirs["id"]
    assert ours["url"] == theirs["url"]
    assert (await http.get(ours["url"])).status_code == 200


async def test_files_of_customers_are_kept_a_week_and_pictures_for_ever(
    owner: httpx2.AsyncClient, http: httpx2.AsyncClient, database: Database, clock: ManualClock
) -> None:
    await owner.post("/uploads", content=CSV)
    picture = (await owner.post("/uploads", content=a_picture())).json()
    soon = await empty_old_files(database, clock.now() + timedelta(days=6))
    later = await empty_old_files(database, clock.now() + timedelta(days=8))
    again = await empty_old_files(database, clock.now() + timedelta(days=8))

    uploads, chunks = await _stored(database)
    assert (soon, later, again) == (0, 1, 0)
    assert {upload.is_usable for upload in uploads if not upload.is_public} == {False}
    assert chunks == [picture["id"]]
    assert (await http.get(picture["url"])).status_code == 200
