"""Pictures: what came in is never served as it came, but drawn again from its pixels.

So nothing that hides in a file survives: no place or time of a photograph, no second format behind
the first. Pillow draws, loaded at the first picture; a thumbnailing service was rejected, for a
logo is drawn once.
"""

import io
from typing import Any

from core.errors import Invalid

MAX_SIDE = 2_000
MAX_PIXELS = 50_000_000
"""What a picture may unpack to: telephones take pictures of up to 50 million pixels."""
_FORMATS = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}
_OPTIONS: dict[str, dict[str, Any]] = {
    "image/png": {"optimize": False},
    "image/jpeg": {"quality": 88},
    "image/webp": {"quality": 88},
}


def picture_type(head: bytes) -> str | None:
    """The media type of a picture by its first bytes, None if it is none that we take."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return None


def drawn_again(data: bytes, media_type: str) -> bytes:
    """The picture in its own format, upright, at most 2 000 pixels a side, its pixels alone.

    Takes up to a second of one processor. Invalid for what is broken or too large to unpack.
    """
    from PIL import Image, ImageOps  # noqa: PLC0415 -- the first picture loads it, not every start

    # Pillow's own limit warns first and refuses at twice of it; ours is looked at before it draws.
    Image.MAX_IMAGE_PIXELS = None
    try:
        with Image.open(io.BytesIO(data), formats=[_FORMATS[media_type]]) as opened:
            _check_size(*opened.size)
            opened.draft("RGB", (MAX_SIDE, MAX_SIDE))
            picture = ImageOps.exif_transpose(opened)
            picture.thumbnail((MAX_SIDE, MAX_SIDE))
            mode = "RGB" if media_type == "image/jpeg" or not _is_clear(picture) else "RGBA"
            # What Pillow knows beside the pixels stays behind: it writes some of it unasked.
            clean = Image.new(mode, picture.size)
            clean.paste(picture.convert(mode))
    except Invalid:
        raise
    except Exception:  # noqa: BLE001 -- Pillow's readers fail in every way on broken files
        raise Invalid("This picture is broken.") from None
    out = io.BytesIO()
    clean.save(out, _FORMATS[media_type], **_OPTIONS[media_type])
    return out.getvalue()


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise Invalid(f"A picture has at most {MAX_PIXELS // 1_000_000} million pixels.")


def _is_clear(picture: Any) -> bool:
    """Whether some of it may be transparent."""
    return picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info
