"""Pictures of codes back to pixels, with nothing but zlib, so that a scanner can read them."""

import re
import struct
import zlib

import zxingcpp

_DARK, _LIGHT = 0, 255
_SCALE = 4
_SEGMENTS = re.compile(r"([Mm])(-?[\d.]+) (-?[\d.]+)|h(\d+)")
_BARS = re.compile(r"M(\d+) (\d+)h1v(\d+)h-1z")


def read_png(picture: bytes) -> tuple[str, str]:
    """The format and the text of the one code in a PNG of one bit a pixel."""
    place, data, head = 8, b"", b""
    while place < len(picture):
        (length,) = struct.unpack(">I", picture[place : place + 4])
        kind, chunk = picture[place + 4 : place + 8], picture[place + 8 : place + 8 + length]
        head = chunk if kind == b"IHDR" else head
        data += chunk if kind == b"IDAT" else b""
        place += length + 12
    width, height, depth, colours = struct.unpack(">IIBB", head[:10])
    assert (depth, colours) == (1, 0)
    stride, raw = (width + 7) // 8 + 1, zlib.decompress(data)
    rows, above = [], bytes(stride - 1)
    for start in range(0, height * stride, stride):
        line = raw[start + 1 : start + stride]
        if raw[start] == 2:  # told as the difference to the line above
            line = bytes((one + other) & 255 for one, other in zip(line, above, strict=True))
        above = line
        bits = "".join(f"{byte:08b}" for byte in line)[:width]
        rows.append([_LIGHT if bit == "1" else _DARK for bit in bits])
    return _read(rows)


def read_svg(picture: bytes) -> tuple[str, str]:
    """The format and the text of the one code in an SVG of ours."""
    text = picture.decode()
    bars = _BARS.findall(text)
    if bars:
        _, _, width, height = re.search(r'viewBox="([\d ]+)"', text)[1].split()
        rows = [[_LIGHT] * int(width) for _ in range(int(height))]
        for x, y, long in bars:
            for row in rows[int(y) : int(y) + int(long)]:
                row[int(x)] = _DARK
        return _read(rows)
    size = int(re.search(r"M0 0h(\d+)", text)[1])
    rows = [[_LIGHT] * size for _ in range(size)]
    x = y = 0.0
    for move, to_x, to_y, run in _SEGMENTS.findall(re.search(r'qrline"[^>]* d="([^"]+)"', text)[1]):
        if run:
            rows[int(y)][int(x) : int(x) + int(run)] = [_DARK] * int(run)
            x += int(run)
        else:
            x, y = (0, 0) if move == "M" else (x, y)
            x, y = x + float(to_x), y + float(to_y)
    return _read(rows)


def _read(rows: list[list[int]]) -> tuple[str, str]:
    wide = [[pixel for pixel in row for _ in range(_SCALE)] for row in rows for _ in range(_SCALE)]
    flat = bytes(pixel for row in wide for pixel in row)
    image = memoryview(flat).cast("B", [len(wide), len(wide[0])])
    (found,) = zxingcpp.read_barcodes(image)
    return found.format.name, found.text
