"""What docs/specs says of a body: the JSON Schemas that partners are given."""

import json
from functools import cache
from typing import Any

from processes import ROOT

SCHEMAS = ROOT / "docs" / "specs" / "json-schema"


def is_documented(body: dict[str, Any], vocabulary: str = "EN") -> bool:
    """Whether a body is as its schema says, without a key that the schema does not know."""
    _validator(vocabulary.lower(), body["event"]).validate(body)
    return True


@cache
def _validator(folder: str, event: str) -> Any:
    # To import it takes two seconds, which every worker would wait for before its first test.
    from jsonschema import Draft202012Validator, FormatChecker  # noqa: PLC0415 -- see above

    schema = json.loads((SCHEMAS / folder / f"{event}.json").read_text())
    for part in (schema, *schema["$defs"].values()):
        if "properties" in part:
            part["additionalProperties"] = False
    return Draft202012Validator(schema, format_checker=FormatChecker())
