"""`stampwire check-deliveries`: it reads what receivers store, and says how to get what is lost."""

import json
import re
from pathlib import Path

import pytest
from click.testing import Result
from graphql import build_schema, parse, validate
from typer.testing import CliRunner

import cli
from core.ids import new_id
from processes import ROOT

pytestmark = pytest.mark.on("sqlite")

ENDPOINT = "we_01jwsample0000000000000000"


def check(*words: str, given: str | None = None) -> Result:
    return CliRunner().invoke(cli.app, ["check-deliveries", *words], input=given)


def lines(*sequences: int, lost: tuple[int, ...] = (), **more: str) -> list[str]:
    """What a receiver stores, without what is lost, oldest last."""
    stored, previous = [], None
    for sequence in sequences:
        id = f"evt_{sequence}"
        body = {"event": "card_saved", "timestamp": "2026-05-11T12:34:56Z", "sequence": sequence}
        delivery = {"webhook-id": id, "webhook-previous-id": previous, "body": json.dumps(body)}
        if sequence not in lost:
            stored.append(json.dumps({**delivery, **more}) + "\n")
        previous = id
    return stored[::-1]


def test_it_says_from_where_to_where_all_is_there(tmp_path: Path):
    file = tmp_path / "deliveries.jsonl"
    file.write_text("".join(lines(3, 5, 8)) + lines(5)[0])

    done = check(str(file), "--from", "evt_3", "--to", "evt_8")

    assert done.exit_code == 0
    assert done.output.splitlines() == [
        f"{file}: 3 events, 1 repeats, 0 tests",
        "  begins with evt_3 (#3); nothing came before it",
        "  complete to the end, which is evt_8 (#8)",
    ]


def test_it_names_each_gap_with_both_sides_and_how_to_ask_again(tmp_path: Path):
    file = tmp_path / "deliveries.jsonl"
    file.write_text("".join(lines(1, 2, 3, 4, 5, lost=(2, 4))))

    done = check(str(file), "--endpoint", ENDPOINT)

    assert done.exit_code == 1
    assert "MISSING evt_2, and maybe others, between evt_1 (#1) and evt_3 (#3)" in done.output
    assert "MISSING evt_4, and maybe others, between evt_3 (#3) and evt_5 (#5)" in done.output
    assert done.output.splitlines()[-1] == "2 findings."
    mutations = re.findall(r"mutation .*", done.output)
    schema = build_schema((ROOT / "docs/schema.graphql").read_text())
    assert [validate(schema, parse(mutation)) for mutation in mutations] == [[]] * 4
    assert f'redeliver(input: {{id: "{ENDPOINT}", eventId: "evt_2"}})' in mutations[0]
    assert 'since: "2026-05-11T12:34:56Z"' in mutations[1]


def test_bodies_of_a_document_are_proven_by_their_previous_ids(tmp_path: Path):
    """They tell neither sequence nor time: the id tells when it was made."""
    ids = [new_id("evt") for _ in range(3)]
    body = {"data": {"events": {"type": "CARD_SAVED"}}}
    deliveries = [
        {"Webhook-Id": id, "Webhook-Previous-Id": previous, "sequence": None, "body": body}
        for id, previous in zip(ids, [None, *ids], strict=False)
    ]
    whole = "".join(f"{json.dumps(one)}\n" for one in deliveries)
    gap = "".join(f"{json.dumps(one)}\n" for one in deliveries[::2])

    assert check("-", given=whole).exit_code == 0
    done = check("-", given=gap)
    assert done.exit_code == 1
    assert f"MISSING {ids[1]}" in done.output
    assert re.search(r'since: "20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ"', done.output)


def test_each_file_is_an_endpoint_and_so_is_each_name_in_the_lines(tmp_path: Path):
    one, other, both = (tmp_path / name for name in ("one", "other", "both"))
    one.write_text("".join(lines(1, 2, 3)))
    other.write_text("".join(lines(1, 2, 3, lost=(2,))))
    both.write_text(
        "".join([*lines(1, 2, 3, endpoint="a"), *lines(1, 2, 3, lost=(2,), endpoint="b")])
    )

    assert check(str(one)).exit_code == 0
    assert "1 findings." in check(str(one), str(other)).output
    assert "1 findings." in check(str(both)).output
    assert "are of one endpoint" not in check(str(one), "--from", "evt_1").output
    assert "of one endpoint" in check(str(one), str(other), "--from", "evt_1").output


def test_a_last_line_cut_short_was_not_answered_and_is_left_out():
    whole = "".join(lines(1, 2)[::-1])

    done = check("-", given=whole[:-9])

    assert done.exit_code == 0
    assert "-:2: the last line is cut short, and left out" in done.output
    assert "1 events" in done.output


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "There is no delivery."),
        ("nonsense\n", "-:1: this is no delivery"),
        ('{"body": "{}"}\n', "-:1: this is no delivery"),
        ('["webhook-id"]\n', "-:1: this is no delivery"),
        ('{"webhook-id": "evt_1", "body": "[]"}\n', "-:1: this is no delivery"),
        ('{"webhook-id": "evt_1", "sequence": "1", "body": "{}"}\n', "-:1: this is no delivery"),
    ],
)
def test_what_is_no_delivery_ends_it_with_a_word(given: str, message: str):
    done = check("-", given=given)

    assert done.exit_code == 1
    assert message in done.output


def test_a_file_that_is_not_there_ends_it_with_a_word(tmp_path: Path):
    assert "No such file" in check(str(tmp_path / "none")).output
