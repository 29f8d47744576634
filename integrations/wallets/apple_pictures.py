"""The pictures of a pass of Apple's kind: its stamps, drawn as on the page of the card, and a sign.

Everything is drawn by Pillow, six times as large as the smallest size, and taken down to each.
"""

import io
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

Colour = tuple[int, int, int]
_STRIP, _ICON, _LOGO = (375, 144), (29, 29), (160, 50)
"""Apple's sizes in points; a telephone takes the picture of its own density."""
_DENSITIES = {"": 1, "@2x": 2, "@3x": 3}
_FINE = 6
_GOLD, _DARK_GOLD, _RED, _DARK = (232, 185, 106), (150, 98, 20), (180, 71, 46), (60, 42, 33)
_PALETTE = 96
"""Colours of a picture: a strip is two of them and what lies between, and a third as large so."""
_MOST_IN_A_ROW = 13


def rgb(colour: str) -> Colour:
    """`#rrggbb` as numbers."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def mixed(one: Colour, other: Colour, share: float) -> Colour:
    """A colour between two; 0 is the one, 1 the other."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


@lru_cache(maxsize=256)
def strips(
    stamps: int, required: int, goals: tuple[int, ...], background: str, foreground: str
) -> dict[str, bytes]:
    """`strip.png` in each density: a place for each stamp, those that were given filled."""
    paper, ink = rgb(background), rgb(foreground)
    width, height = (side * _FINE for side in _STRIP)
    picture, draw = _canvas(width, height, paper)
    rows = _rows(required)
    columns = math.ceil(required / rows)
    gap = min(width / (columns + 0.35), height / (rows + 0.25))
    left = (width - gap * (columns - 1)) / 2
    top = (height - gap * (rows - 1)) / 2
    for place in range(1, required + 1):
        row, column = divmod(place - 1, columns)
        # The last row stands in the middle.
        short = columns * (row + 1) - required if row == rows - 1 else 0
        x, y = left + gap * (column + short / 2), top + gap * row
        _place(
            draw,
            (x, y, gap * 0.41),
            is_full=place <= stamps,
            is_goal=place in goals,
            paper=paper,
            ink=ink,
        )
    return _in_all_sizes("strip", picture, _STRIP, colours=_PALETTE)


@lru_cache(maxsize=64)
def signs(background: str, foreground: str) -> dict[str, bytes]:
    """`icon.png` and `logo.png` of a business without a logo: a stamp."""
    paper, ink = rgb(background), rgb(foreground)
    side = _ICON[0] * _FINE
    icon, draw = _canvas(side, side, paper)
    _stamp(draw, (side / 2, side / 2, side * 0.38), paper, ink)
    height = _LOGO[1] * _FINE
    logo, draw = _canvas(height, height, None)
    _stamp(draw, (height / 2, height / 2, height * 0.42), paper, ink)
    square = (_LOGO[1], _LOGO[1])
    return _in_all_sizes("icon", icon, _ICON) | _in_all_sizes("logo", logo, square)


@lru_cache(maxsize=16)
def signs_of(logo: bytes, background: str) -> dict[str, bytes]:
    """`icon.png` and `logo.png` of a business with a logo, which is a picture that we drew."""
    from PIL import Image, ImageOps  # noqa: PLC0415 -- the first pass loads it, not every start

    with Image.open(io.BytesIO(logo), formats=["PNG", "JPEG", "WEBP"]) as opened:
        own = opened.convert("RGBA")
    side = _ICON[0] * _FINE
    icon, _ = _canvas(side, side, rgb(background))
    small = ImageOps.contain(own, (side, side), Image.Resampling.LANCZOS)
    icon.alpha_composite(small, ((side - small.width) // 2, (side - small.height) // 2))
    large = ImageOps.contain(own, (_LOGO[0] * _FINE, _LOGO[1] * _FINE), Image.Resampling.LANCZOS)
    size = max(1, large.width // _FINE), max(1, large.height // _FINE)
    return _in_all_sizes("icon", icon, _ICON) | _in_all_sizes("logo", large, size)


def _rows(required: int) -> int:
    """In how many rows so many places are large and stand well."""
    for rows, most in ((1, 5), (2, 14), (3, 27), (4, 40)):
        if required <= most:
            return rows
    return math.ceil(required / _MOST_IN_A_ROW)


def _canvas(width: int, height: int, paper: Colour | None) -> tuple[Any, Any]:
    from PIL import Image, ImageDraw  # noqa: PLC0415 -- the first pass loads it, not every start

    picture = Image.new("RGBA", (width, height), (*paper, 255) if paper else (0, 0, 0, 0))
    return picture, ImageDraw.Draw(picture)


def _place(
    draw: Any,
    where: tuple[float, float, float],
    *,
    is_full: bool,
    is_goal: bool,
    paper: Colour,
    ink: Colour,
) -> None:
    x, y, radius = where
    box = (x - radius, y - radius, x + radius, y + radius)
    line = max(4, round(radius * 0.09))
    if is_full and is_goal:
        draw.ellipse(box, fill=_GOLD)
        _gift(draw, where, _DARK)
    elif is_full:
        _stamp(draw, where, paper, ink)
    elif is_goal:
        gold = _GOLD if _contrast(_GOLD, paper) >= 2 else _DARK_GOLD
        draw.ellipse(box, outline=gold, width=line)
        _gift(draw, where, gold)
    else:
        _dashes(draw, box, mixed(paper, ink, 0.42), line)


def _stamp(draw: Any, where: tuple[float, float, float], paper: Colour, ink: Colour) -> None:
    x, y, radius = where
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ink)
    # Where our red would not be seen, the paper's colour is.
    colour = _RED if _contrast(_RED, ink) >= 3 else paper
    ring = radius * 0.85
    line = max(2, round(radius * 0.045))
    draw.ellipse((x - ring, y - ring, x + ring, y + ring), outline=colour, width=line)
    _star(draw, (x, y, radius * 0.58), colour)


def _star(draw: Any, where: tuple[float, float, float], colour: Colour) -> None:
    x, y, radius = where
    points = []
    for turn in range(10):
        reach = radius if turn % 2 == 0 else radius * 0.45
        angle = math.pi * (turn / 5 - 0.5)
        points.append((x + reach * math.cos(angle), y + reach * math.sin(angle)))
    draw.polygon(points, fill=colour)


def _gift(draw: Any, where: tuple[float, float, float], colour: Colour) -> None:
    """A parcel with a bow."""
    x, y, radius = where
    unit = radius * 0.1

    def box(left: float, top: float, right: float, bottom: float) -> Sequence[float]:
        return (x + left * unit, y + top * unit, x + right * unit, y + bottom * unit)

    draw.rectangle(box(-5.2, -2, -0.5, 0.6), fill=colour)
    draw.rectangle(box(0.5, -2, 5.2, 0.6), fill=colour)
    draw.rectangle(box(-4.5, 1.3, -0.5, 5.2), fill=colour)
    draw.rectangle(box(0.5, 1.3, 4.5, 5.2), fill=colour)
    line = max(3, round(unit * 1.1))
    draw.ellipse(box(-3.8, -5.3, 0.2, -2), outline=colour, width=line)
    draw.ellipse(box(-0.2, -5.3, 3.8, -2), outline=colour, width=line)


def _dashes(draw: Any, box: Sequence[float], colour: Colour, line: int) -> None:
    """A circle of dashes, as long as the gaps between them."""
    for turn in range(16):
        draw.arc(box, turn * 22.5, turn * 22.5 + 12, fill=colour, width=line)


def _contrast(one: Colour, other: Colour) -> float:
    """How well one colour is seen on another: 1 to 21, as WCAG has it."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: Colour) -> float:
    linear: Callable[[float], float] = lambda part: (  # noqa: E731 -- one line of a formula
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4
    )
    red, green, blue = (linear(part / 255) for part in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _in_all_sizes(
    name: str, picture: Any, size: tuple[int, int], colours: int | None = None
) -> dict[str, bytes]:
    from PIL import Image  # noqa: PLC0415 -- the first pass loads it, not every start

    made = {}
    whole = picture if colours is None else picture.convert("RGB")
    for suffix, density in _DENSITIES.items():
        # Of what was drawn so large it does as well as LANCZOS, in a fourth of the time.
        small = whole.resize(
            (size[0] * density, size[1] * density), resample=Image.Resampling.HAMMING
        )
        if colours is not None:
            small = small.quantize(colours, dither=Image.Dither.NONE)
        out = io.BytesIO()
        small.save(out, "PNG", optimize=False)
        made[f"{name}{suffix}.png"] = out.getvalue()
    return made
