"""`stampwire events export`: the log as JSON lines and as a table."""

import asyncio
import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from core.settings import Settings
from db import Database, database_of
from events import event_types
from events.log import sample_body
from events.table import cells, columns
from factories import a_business, a_card, a_card_template, an_award_goal, stamps
from models import Vocabulary
from processes import Process

Run = Callable[..., str]


@pytest.fixture
def cafe(settings: Settings) -> str:
    """A café in Jakarta with a card and 1 200 stamps on it, every one a minute after the other."""

    async def live(database: Database) -> str:
        start = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)
        owner = (await a_business(database, name="Kopi", now=start)).owner
        goals = [an_award_goal(1, '=HYPERLINK("http://evil.example","Prize")')]
        template = await a_card_template(database, owner, 1, goals)
        card = await a_card(database, owner, template.id, start)
        await stamps(database, owner, card, 1, start)
        for hour in range(10):
            moment = start.replace(hour=11 + hour)
            await stamps(database, owner, card, 50, moment)
        return owner.business_id

    async def done() -> str:
        database = database_of(settings)
        await database.open()
        try:
            return await live(database)
        finally:
            await database.close()

    return asyncio.run(done())


def test_the_log_is_exported_page_by_page(run: Run, cafe: str) -> None:
    lines = run("events", "export", "--business", cafe, "--vocabulary", "EN").splitlines()

    told = [json.loads(line) for line in lines]
    assert [event["sequence"] for event in told] == list(range(1, len(told) + 1))
    assert len(told) == 1 + 11 + 2 * (1 + 500)  # more than two pages
    assert told[0]["event"] == "card_issued"
    ours = run("events", "export", "--business", cafe).splitlines()
    assert json.loads(ours[0])["event"] == "kartu_diterbitkan"
    assert run("events", "--business", cafe).splitlines() == ours


def test_a_span_is_told_in_days_or_moments(run: Run, cafe: str) -> None:
    def sequences(*arguments: str) -> list[int]:
        lines = run("events", "export", "--business", cafe, *arguments).splitlines()
        return [json.loads(line)["sequence"] for line in lines]

    everything = sequences()
    # The third of March begins at 17:00 UTC in Jakarta.
    before, after = sequences("--until", "2026-03-03"), sequences("--since", "2026-03-03")
    hour = sequences("--since", "2026-03-02T11:00:00Z", "--until", "2026-03-02T19:00:00")

    assert before + after == everything
    assert len(after) == 4 * 101
    assert len(hour) == 101
    assert sequences("--types", "card_issued") == [1]


def test_the_table_is_safe_and_always_the_same_shape(
    run: Run, cafe: str, settings: Settings
) -> None:
    path = settings.data_dir / "log.csv"
    arguments = ("--business", cafe, "--format", "csv", "--vocabulary", "EN")
    text = run("events", "export", *arguments)
    run("events", "export", *arguments, "--out", str(path))

    rows = list(csv.DictReader(io.StringIO(text)))
    assert path.read_bytes() == text.encode()
    assert text.splitlines()[0].split(",") == columns(Vocabulary.EN)
    assert (rows[0]["event"], rows[0]["card.stamps_required"]) == ("card_issued", "1")
    assert (rows[1]["stamp.count"], rows[1]["stamp.amount"]) == ("1", "")
    assert (rows[2]["event"], rows[2]["goal.is_final"]) == ("goal_reached", "true")
    assert rows[3]["reward.title"] == '\'=HYPERLINK("http://evil.example","Prize")'
    assert [row["sequence"] for row in rows] == [str(n) for n in range(1, len(rows) + 1)]
    indonesian = run("events", "export", "--business", cafe, "--format", "csv")
    assert indonesian.splitlines()[0].split(",") == columns(Vocabulary.ID)


def test_what_is_no_day_is_refused(settings: Settings, cafe: str) -> None:
    with pytest.raises(RuntimeError, match="is not a day or moment"):
        Process(settings).run("events", "export", "--business", cafe, "--since", "yesterday")


def test_the_columns_follow_from_the_catalogue() -> None:
    names = columns(Vocabulary.EN)

    assert names[:9] == ["event", "timestamp", "business_id", "location_id", "customer.id",
        "customer.wallet_pass_id", "customer.language", "card.id", "card.goal_index"]  # fmt: skip
    assert names[9:13] == ["id", "sequence", "api_version", "staff_id"]
    assert len(names) == len(set(names)) == len(columns(Vocabulary.ID))
    assert "pelanggan.id" in columns(Vocabulary.ID)
    for kind in event_types().values():
        body = sample_body(kind, "b_1", datetime(2026, 3, 2, tzinfo=UTC))
        filled = [cell for cell in cells(body, Vocabulary.EN) if cell]
        for part in json.loads(body).values():
            for value in part.values() if isinstance(part, dict) else [part]:
                assert not isinstance(value, str) or value in filled


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+62", "'+62"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("＝1", "'＝1"),
        ("a=1", "a=1"),
        ("", ""),
        (-1, "-1"),
        (None, ""),
        (True, "true"),
        (["a", "b"], "a|b"),
        (["=a", "b"], "'=a|b"),
        ([], ""),
    ],
)
def test_a_cell_is_never_a_formula(value: Any, cell: str) -> None:
    body = json.dumps({"event": "stamp_added", "stamp": {"external_ref": value}})

    line = dict(zip(columns(Vocabulary.EN), cells(body, Vocabulary.EN), strict=True))

    assert line["stamp.external_ref"] == cell
    assert line["event"] == "stamp_added"
    assert line["customer.id"] == ""
