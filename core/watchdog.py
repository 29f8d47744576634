"""The watchdog of the event loop: tells, with the stack, when something holds it for a second.

A thread of its own looks at a clock that the loop winds four times a second. Only that thread can
see where the loop stands while it stands there. Code that holds Python's own lock as well (one
long call into C) stops the thread too: the loop itself then tells, without a stack.
"""

import asyncio
import sys
import threading
import traceback
from time import monotonic

import structlog

from core.metrics import LOOP_BLOCKED, LOOP_DELAY

LIMIT = 1.0
EVERY = 0.25

log = structlog.get_logger("stampwire.watchdog")


class Watchdog:
    """One per process."""

    def __init__(self, limit: float = LIMIT, every: float = EVERY) -> None:
        self._limit = limit
        self._every = every
        self._wound_at = 0.0
        self._is_told = False
        self._thread_of_loop = 0
        self._stopped = threading.Event()
        self._tick: asyncio.TimerHandle | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Watch the running event loop."""
        self._thread_of_loop = threading.get_ident()
        self._wound_at = monotonic()
        self._tick = asyncio.get_running_loop().call_later(self._every, self._wind)
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Watch no more."""
        self._stopped.set()
        if self._tick is not None:
            self._tick.cancel()
        if self._thread is not None:
            self._thread.join()

    def _wind(self) -> None:
        """In the loop: it goes on."""
        now = monotonic()
        late = max(0.0, now - self._wound_at - self._every)
        LOOP_DELAY.observe(late)
        if late >= self._limit:
            LOOP_BLOCKED.count()
            log.warning("event loop goes on", blocked_seconds=round(late, 2))
        self._is_told = False
        self._wound_at = now
        self._tick = asyncio.get_running_loop().call_later(self._every, self._wind)

    def _watch(self) -> None:
        """In the thread: look whether the loop goes on."""
        looked_at = monotonic()
        while not self._stopped.wait(self._every):
            now = monotonic()
            # Where the whole process was stopped (SIGSTOP, a sleeping machine), no loop is blocked.
            was_away = now - looked_at > self._every + self._limit / 2
            looked_at = now
            if self._is_told or was_away or now - self._wound_at - self._every < self._limit:
                continue
            self._is_told = True
            log.warning("event loop blocked", where=self._stack())

    def _stack(self) -> list[str]:
        """Where the loop stands, the innermost last; lines of code, never what they work on."""
        frame = sys._current_frames().get(self._thread_of_loop)  # noqa: SLF001 -- the documented way
        stack = traceback.extract_stack(frame) if frame else []
        return [f"{line.filename}:{line.lineno} {line.name}" for line in stack[-20:]]
