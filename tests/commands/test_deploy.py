"""What deploy/ holds is well formed: by the usual linters, and by Caddy where it is installed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from core.settings import Settings
from processes import ROOT

pytestmark = pytest.mark.on("sqlite")

DEPLOY = ROOT / "deploy"


def test_the_dockerfile_has_no_finding() -> None:
    assert said_by(tool("hadolint"), "--no-color", DEPLOY / "Dockerfile") == ""


def test_the_compose_file_fits_its_schema() -> None:
    schema = ["--builtin-schema", "vendor.compose-spec"]

    assert "ok" in said_by(tool("check-jsonschema"), *schema, DEPLOY / "compose.yaml")


def test_the_compose_file_starts_two_servers_and_two_workers_on_settings_that_exist() -> None:
    made = YAML(typ="safe").load((DEPLOY / "compose.yaml").read_text())
    services = made["services"]
    known = {f"STAMPWIRE_{name.upper()}" for name in Settings.model_fields}

    assert [services[name]["deploy"]["replicas"] for name in ("web", "worker")] == [2, 2]
    for name in ("release", "web", "worker"):
        assert set(services[name]["environment"]) <= known
        assert services[name]["read_only"] is True
    assert services["web"]["command"] == ["serve", "--no-worker"]
    for service in services.values():
        image = service["image"]
        assert image == "stampwire" or re.search(r":\d+\.\d+", image), image
        for mount in service.get("volumes", ()):
            source = mount.partition(":")[0]
            assert source in made["volumes"] or (DEPLOY / source).exists(), mount


def test_every_variable_of_the_compose_file_is_in_the_example() -> None:
    asked = set(re.findall(r"\$\{(\w+)", (DEPLOY / "compose.yaml").read_text()))
    example = (DEPLOY / "example.env").read_text()

    assert {name for name in asked if f"\n{name}=" not in example} == set()


def test_what_the_image_copies_is_all_that_serving_needs() -> None:
    """Every room of code is let in; data, secrets, tests and history are not."""
    let_in = {
        line.removeprefix("!").partition("/")[0]
        for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "docs"}
    modules = {path.name for path in ROOT.glob("*.py")}

    assert rooms | modules <= let_in
    assert let_in & {"var", "tests", ".git", "docs", ".venv", "deploy"} == set()


def test_scripts_are_well_formed() -> None:
    script = DEPLOY / "postgres-init.sh"

    assert said_by("bash", "-n", script) == ""
    assert os.access(script, os.X_OK)


def test_caddy_accepts_the_caddyfile() -> None:
    assert shutil.which("caddy"), "Caddy is missing: apt-get install caddy"
    said_by(
        "caddy", "validate", "--adapter", "caddyfile", "--config", DEPLOY / "Caddyfile",
        STAMPWIRE_HOST_NAME="stamps.example",
    )  # fmt: skip


def tool(name: str) -> Path:
    """A program that came with our requirements."""
    return Path(sys.executable).with_name(name)


def said_by(*words: str | Path, **environment: str) -> str:
    """What a program printed; it did not fail."""
    done = subprocess.run(
        [str(word) for word in words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
