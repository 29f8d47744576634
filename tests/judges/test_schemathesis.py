"""schemathesis asks every query and mutation what nobody would ask, from a fixed seed."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from judges.conftest import Judged
from judges.panel import HERE, SCHEMATHESIS, SCHEMATHESIS_EXCLUDED, Judge

pytestmark = [pytest.mark.on("sqlite"), pytest.mark.slow]

SEED = 20261123
EXAMPLES = 7
"""For each operation; some hundreds of calls in all."""
MANY = 80
"""For each operation when there is time."""
THROTTLED = ("Mutation.changePassword", "Mutation.resetPassword", "Mutation.signIn")
"""Who has tried these so often waits a minute, and so is not asked so often."""
CHECKS = (
    "not_a_server_error",
    "response_schema_conformance",
    "negative_data_rejection",
    "status_code_conformance",
    "content_type_conformance",
)


@pytest.mark.parametrize(
    "examples",
    [EXAMPLES, pytest.param(MANY, marks=[pytest.mark.soak, pytest.mark.timeout(1_200)])],
)
def test_schemathesis_finds_no_failure(
    judged: Judged, tmp_path: Path, verdict: Callable[[Judge, str], None], examples: int
) -> None:
    words = [
        "run", judged.graphql, "--header", f"Authorization: Bearer {judged.key}",
        "--mode", "all", "--phases", "fuzzing", "--checks", ",".join(CHECKS),
        "--seed", str(SEED), "--max-examples", str(examples), "--generation-database", "none",
        "--no-shrink", "--warnings", "off", "--no-color",
    ]  # fmt: skip
    for name in (*SCHEMATHESIS_EXCLUDED, *(THROTTLED if examples == MANY else ())):
        words += ["--exclude-name", name]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": str(HERE),
        "SCHEMATHESIS_HOOKS": "scalars",
    }

    done = subprocess.run(
        [str(Path(sys.executable).parent / "schemathesis"), *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=110 if examples == EXAMPLES else 1_150,
    )

    counts = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    calls, passed = map(int, counts.groups()) if counts else (0, 0)
    if examples == EXAMPLES:
        verdict(SCHEMATHESIS, f"{calls - passed} failures of {calls} calls (seed {SEED})")
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert (calls, calls - passed) >= (400, 0), json.dumps([calls, passed])
    assert "errors:" not in done.stdout.lower()
