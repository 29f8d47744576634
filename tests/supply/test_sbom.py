"""The bills of materials: valid CycloneDX, and they name what the locks name."""

import json
import re
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from docs.generate.sbom import PAGE_LOCK, npm_locks
from processes import ROOT

pytestmark = pytest.mark.on("sqlite")

BILLS = sorted((ROOT / "docs" / "sbom").glob("*.cdx.json"))


def named_in(bill: str) -> set[str]:
    told = json.loads((ROOT / "docs" / "sbom" / bill).read_text())
    return {one["purl"].replace("%40", "@") for one in told["components"]}


def of_npm(lock: Path) -> set[str]:
    packages = json.loads(lock.read_text())["packages"].items()
    return {
        f"pkg:npm/{told.get('name') or path.rpartition('node_modules/')[2]}@{told['version']}"
        for path, told in packages
        if path
    }


@pytest.mark.parametrize("bill", BILLS, ids=lambda bill: bill.name)
def test_a_bill_is_valid(bill: Path) -> None:
    text = bill.read_text()

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert text.count("://") == 1, "the schema's, and of no index"


def test_pythons_bills_name_what_is_installed() -> None:
    shipped = [lock for lock in (ROOT / "requirements").glob("*.txt") if lock.stem != "dev"]

    assert shipped
    for lock in shipped:
        locked = re.findall(r"^([a-z0-9.-]+)==([^ ;\\]+)", lock.read_text(), re.MULTILINE)
        bill = f"python-{lock.stem}.cdx.json"
        assert named_in(bill) == {f"pkg:pypi/{name}@{version}" for name, version in locked}


def test_the_others_name_what_npm_installs() -> None:
    tools = [of_npm(lock) for lock in npm_locks() if lock != PAGE_LOCK]

    assert named_in("graphiql.cdx.json") == of_npm(PAGE_LOCK)
    assert named_in("npm-tools.cdx.json") == set().union(*tools)
