"""Sheets: rows of a CSV file, read as its bytes come, with no more than a piece in memory."""

import asyncio
import codecs
import csv
import io
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass

COLUMNS = ("name", "email", "phone", "birthday", "stamps")
MOST_ROWS = 100_000
MOST_CHARS = 65_536
"""A row that is longer is none: most likely a quote was never closed."""
_PIECE = 8_192
"""Bytes that are read at one go: there may be a row in each of them."""


class Unreadable(Exception):
    """The file is no sheet of customers. The message holds nothing of its content."""


@dataclass(frozen=True, slots=True)
class SheetRow:
    """A row: its number as a spreadsheet shows it (the header is row 1), and its cells."""

    number: int
    cells: Mapping[str, str]
    is_whole: bool = True
    """Whether it has no more cells than the header has names."""

    @property
    def is_blank(self) -> bool:
        """Whether nothing is written in it."""
        return not any(self.cells.values())


async def rows_of(chunks: AsyncIterator[bytes]) -> AsyncIterator[SheetRow]:
    """Every row below the header, blank ones too.

    The header names columns in any order; a byte order mark is passed over, and the separator is
    the comma or the semicolon, whichever the header has more of. Unreadable says what is wrong.
    """
    header: list[str] | None = None
    number = 0
    async for record in _records(chunks):
        number += 1
        if header is None:
            header = _names(record)
            continue
        if number > MOST_ROWS + 1:
            raise Unreadable(f"A file has at most {MOST_ROWS} rows.")
        cells = {name: cell.strip() for name, cell in zip(header, record, strict=False)}
        yield SheetRow(number, cells, is_whole=not any(record[len(header) :]))
    if header is None:
        raise Unreadable("The file is empty.")


def _names(record: list[str]) -> list[str]:
    names = [cell.strip().lower() for cell in record]
    while names and not names[-1]:
        names.pop()
    if not names or not set(names) <= set(COLUMNS) or len(names) != len(set(names)):
        raise Unreadable(f"The first row names the columns, of {', '.join(COLUMNS)}, once each.")
    if not {"email", "phone"} & set(names):
        raise Unreadable("A file of customers has a column email or phone.")
    return names


async def _records(chunks: AsyncIterator[bytes]) -> AsyncIterator[list[str]]:
    """The records of a CSV file. The last one of a piece waits: more of it may be to come."""
    utf8 = codecs.getincrementaldecoder("utf-8-sig")()
    decoder = io.IncrementalNewlineDecoder(utf8, translate=True)
    separator: str | None = None
    waiting = ""
    async for data in _pieces(chunks):
        waiting += decoder.decode(data)
        cut = waiting.rfind("\n") + 1
        if cut:
            separator = separator or _separator(waiting)
            found = list(_parsed(waiting[:cut], separator))
            for record, _ in found[:-1]:
                yield record
            waiting = waiting[found[-1][1] :]
        if len(waiting) > MOST_CHARS:
            raise Unreadable(f"A row is longer than {MOST_CHARS} characters: a quote is missing?")
    waiting += decoder.decode(b"", final=True)
    for record, _ in _parsed(waiting, separator or _separator(waiting)):
        yield record


async def _pieces(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same, little by little: others have their turn in between."""
    async for data in chunks:
        for start in range(0, len(data), _PIECE):
            yield data[start : start + _PIECE]
            await asyncio.sleep(0)


def _parsed(text: str, separator: str) -> Iterator[tuple[list[str], int]]:
    """The records of a text, and where each begins."""
    begins = ends = 0

    def lines() -> Iterator[str]:
        nonlocal ends
        for line in io.StringIO(text, newline="\n"):
            ends += len(line)
            yield line

    try:
        for record in csv.reader(lines(), delimiter=separator):
            yield record, begins
            begins = ends
    except csv.Error:
        raise Unreadable("This is not a CSV file, or a quote is missing.") from None


def _separator(text: str) -> str:
    header = text.partition("\n")[0]
    return ";" if header.count(";") > header.count(",") else ","
