"""Base64 in the alphabet of URLs, as browsers write keys."""

import base64


def base64_bytes(text: str) -> bytes:
    """The bytes of a text, with or without padding. ValueError for what is none."""
    bare = text.rstrip("=")
    return base64.b64decode(bare + "=" * (-len(bare) % 4), b"-_", validate=True)
