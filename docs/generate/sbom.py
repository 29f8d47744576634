"""sbom: bills of materials in CycloneDX, made of the locks: what ships, and what it is tested with.

The lock of Python is read by CycloneDX's own tool; that of npm says what a bill needs by itself.
"""

import base64
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from docs.generate.shared import FOLDER

ROOT = FOLDER.parent
PYTHON_LOCKS = ROOT / "requirements"
PAGE_LOCK = ROOT / "console" / "graphiql" / "source" / "package-lock.json"
_ELSEWHERE = {"node_modules", "var", "build"}
_SCHEMA = "http://cyclonedx.org/schema/bom-1.6.schema.json"


def the_bills() -> Mapping[str, str]:
    """Each bill by its file: Python's packages, the page's, and those of tools, without hashes."""
    tools = [lock for lock in npm_locks() if lock != PAGE_LOCK]
    return {
        **{
            f"python-{lock.stem}.cdx.json": _bill("stampwire", _of_python(lock), [lock])
            for lock in sorted(PYTHON_LOCKS.glob("*.txt"))
            if lock.stem != "dev"
        },
        "graphiql.cdx.json": _bill("stampwire-graphiql", _of_npm(PAGE_LOCK), [PAGE_LOCK]),
        "npm-tools.cdx.json": _bill(
            "stampwire-tools",
            [
                {name: value for name, value in one.items() if name != "hashes"}
                for lock in tools
                for one in _of_npm(lock)
            ],
            tools,
        ),
    }


def npm_locks() -> list[Path]:
    """Every lock of npm that is ours."""
    found = ROOT.glob("[!.]*/**/package-lock.json")
    return sorted(lock for lock in found if not _ELSEWHERE & set(lock.relative_to(ROOT).parts))


def _bill(name: str, components: list[dict[str, Any]], locks: list[Path]) -> str:
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    main = {
        "bom-ref": name,
        "type": "application",
        "name": name,
        "version": told["version"],
        "licenses": [{"license": {"id": told["license"]}}],
    }
    of = [{"name": "stampwire:lock", "value": str(lock.relative_to(ROOT))} for lock in locks]
    by_ref = {one["bom-ref"]: one for one in components}
    lines = [json.dumps(by_ref[ref], ensure_ascii=False) for ref in sorted(by_ref)]
    head = {
        "$schema": _SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": main, "properties": of},
    }
    # A line for each component: a change of one is a line of a diff.
    begun = json.dumps(head, ensure_ascii=False, indent=1).removesuffix("\n}")
    return f'{begun},\n "components": [\n' + ",\n".join(lines) + "\n ]\n}\n"


def _of_python(lock: Path) -> list[dict[str, Any]]:
    # Without the hashes, of which the tool would make nothing that a bill has room for.
    text = re.sub(r"( \\\n)? +--hash=\S+", "", lock.read_text())
    words = ["requirements", "--output-reproducible", "--no-validate", "--spec-version", "1.6", "-"]
    done = subprocess.run(  # noqa: S603 -- a tool of ours, on a file of ours
        [sys.executable, "-m", "cyclonedx_py", *words],
        input=text.encode(),
        capture_output=True,
        check=True,
    )
    return [_of_requirement(one) for one in json.loads(done.stdout)["components"]]


def _of_requirement(told: dict[str, Any]) -> dict[str, Any]:
    """A component: named by what it is, and without the index that somebody may take it from."""
    made = {name: told[name] for name in ("type", "name", "version", "purl")}
    return {"bom-ref": told["purl"], **made}


def _of_npm(lock: Path) -> list[dict[str, Any]]:
    packages = json.loads(lock.read_text())["packages"]
    return [_of_package(path, told) for path, told in packages.items() if path]


def _of_package(path: str, told: dict[str, Any]) -> dict[str, Any]:
    full = told.get("name") or path.rpartition("node_modules/")[2]
    scope, _, name = full.rpartition("/")
    purl = f"pkg:npm/{quote(full, safe='/')}@{told['version']}"
    made: dict[str, Any] = {"bom-ref": purl, "type": "library"}
    if scope:
        made["group"] = scope
    made |= {"name": name, "version": told["version"], "purl": purl}
    if isinstance(license_ := told.get("license"), str):
        made["licenses"] = [_license(license_)]
    made["hashes"] = list(_hashes(told.get("integrity", "")))
    return made


def _license(said: str) -> dict[str, Any]:
    """As a name: whether it is one of SPDX's identifiers is not for us to say."""
    return {"license": {"name": said}}


def _hashes(integrity: str) -> Iterator[dict[str, str]]:
    for one in integrity.split():
        kind, _, digest = one.partition("-")
        yield {
            "alg": kind.upper().replace("SHA", "SHA-"),
            "content": base64.b64decode(digest).hex(),
        }
