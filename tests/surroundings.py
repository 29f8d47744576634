"""What not every machine allows, whatever is installed: tests that need it are left out there."""

import ctypes
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent
FORMER = "1dde6d9"
"""The last commit of the former release, whose schema is revision 0001."""


@functools.cache
def _may_mount() -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    with tempfile.TemporaryDirectory() as folder:
        if libc.mount(b"tmpfs", folder.encode(), b"tmpfs", 0, b"size=65536") != 0:
            return False
        libc.umount2(folder.encode(), 2)
        return True


@functools.cache
def _may_trace() -> bool:
    """True without strace, too: its test then fails, and names the command that installs it."""
    strace = shutil.which("strace")
    return strace is None or _works(strace, "-f", "-qq", "-o", "/dev/null", "true")


@functools.cache
def _reaches_back() -> bool:
    return _works("git", "-C", str(ROOT), "cat-file", "-e", f"{FORMER}^{{commit}}")


def _works(*words: str) -> bool:
    try:
        return subprocess.run(words, capture_output=True, check=False, timeout=30).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


MISSING: dict[str, tuple[Callable[[], bool], str]] = {
    "mounts": (_may_mount, "a disk of their own: mounting is not allowed here, only to root"),
    "traces": (_may_trace, "system calls: tracing other processes is not allowed here"),
    "history": (_reaches_back, f"the former release: no history here that reaches to {FORMER}"),
}
"""Per word of the marker `surroundings`: whether it is here, and what is said where it is not."""
