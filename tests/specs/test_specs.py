"""The documents for machines, each read by the tool it is written for."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from documented import SCHEMAS, is_documented
from events import event_types, to_indonesian
from events.log import sample_body
from factories import NOW
from npm import node
from processes import ROOT

pytestmark = [pytest.mark.on("sqlite"), pytest.mark.slow]

SPECS = ROOT / "docs" / "specs"
FOLDERS = ("en", "id")


def test_asyncapis_parser_has_nothing_to_say_and_every_example_fits(
    ask: Callable[..., Any], tmp_path: Path
):
    broken, unfit = tmp_path / "broken.json", tmp_path / "unfit.json"
    document = json.loads((SPECS / "asyncapi.json").read_text())
    document["operations"]["connect"]["action"] = "shout"
    broken.write_text(json.dumps(document))
    document["operations"]["connect"]["action"] = "receive"
    document["components"]["messages"]["StampAdded.EN"]["examples"][0]["payload"]["stamp"] = 2
    unfit.write_text(json.dumps(document))

    said, of_broken, of_unfit = ask("asyncapi.mjs", SPECS / "asyncapi.json", broken, unfit)

    assert said["diagnostics"] == said["wrong"] == []
    words = [kind.__name__ for kind in event_types().values()]
    posted = [f"webhooks{name} {word}" for name in ("EN", "ID") for word in words]
    frames = {name for name in said["messages"] if name.startswith("graphql ")}
    assert set(said["messages"]) == {*posted, *frames}
    assert set(said["messages"].values()) == {1}
    assert len(frames) == 8
    actions = dict(said["operations"])
    assert (actions["postEventEN"], actions["postEventID"]) == ("send", "send")
    assert any("operations.connect.action" in one for one in of_broken["diagnostics"])
    [wrong] = of_unfit["wrong"]
    assert wrong.startswith("webhooksEN StampAdded payload")


def test_ajv_takes_every_schema_and_each_example_fits_its_own_alone(ask: Callable[..., Any]):
    said = ask("schemas.mjs", *(SCHEMAS / folder for folder in FOLDERS))

    count = len(event_types())
    assert said == [{"files": count + 1, "examples": count, "wrong": []}] * 2


def test_types_fit_the_examples_and_nothing_else(workshop: Path):
    for folder in FOLDERS:
        module = f"events.{folder}"
        (workshop / f"{module}.ts").write_text((SPECS / "typescript" / f"{module}.ts").read_text())
        (workshop / f"examples.{folder}.ts").write_text(examples_for(folder))

    options = {"noEmit": True, "strict": True, "target": "es2022", "module": "esnext",
               "moduleResolution": "bundler", "types": []}  # fmt: skip
    (workshop / "tsconfig.json").write_text(
        json.dumps({"compilerOptions": options, "include": ["examples.*.ts"]})
    )

    done = subprocess.run(
        [node(), "node_modules/typescript/bin/tsc"],
        cwd=workshop, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip

    assert (done.returncode, done.stdout) == (0, "")


def examples_for(folder: str) -> str:
    """A program with each example, what is not allowed, and a choice that leaves nothing out."""
    schemas = [json.loads(file.read_text()) for file in (SCHEMAS / folder).glob("*_*.json")]
    lines = [f'import type * as all from "./events.{folder}";']
    for schema in schemas:
        [example] = schema["examples"]
        title = schema["title"]
        lines += [
            f"export const an{title}: all.{title} = {json.dumps(example)};",
            f"// @ts-expect-error -- there is no such key\nan{title}.colour;",
            f"// @ts-expect-error -- another event\nan{title}.event = 'something_else';",
        ]
    cases = [
        f"case {json.dumps(schema['properties']['event']['const'])}: "
        f"{{ const told: all.{schema['title']} = event; return told.id; }}"
        for schema in schemas
    ]
    lines += [
        "export function idOf(event: all.StampwireEvent): string { switch (event.event) {",
        *cases,
        "default: { const none: never = event; return none; } } }",
    ]
    return "\n".join(lines)


def test_the_samples_that_the_server_gives_are_documented():
    for kind in event_types().values():
        body = sample_body(kind, "b_01jwsample0000000000000000", NOW)
        assert is_documented(json.loads(body))
        assert is_documented(json.loads(to_indonesian(body)), "ID")


def test_contact_data_is_documented():
    with_contact = {"name": "Ana", "email": "ana@mail.example", "phone": None}
    [sample] = json.loads((SCHEMAS / "en" / "card_issued.json").read_text())["examples"]

    assert is_documented(sample | {"contact": with_contact})
