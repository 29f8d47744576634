"""Logs: one JSON object a line, of what happened and where; never personal data or a secret."""

import logging
import sys
import traceback
from collections.abc import Iterator, MutableMapping
from typing import Any

import structlog

_LONGEST_CHAIN = 5


def configure_logs(level: str) -> None:
    """Send our own logs and the libraries' to standard error, as JSON lines."""
    chosen = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            *shared,
            _tell_where,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(chosen),
        logger_factory=lambda *_: _StandardError(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _tell_where,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(level=max(chosen, logging.WARNING), handlers=[handler], force=True)


def _tell_where(
    logger: Any,  # noqa: ARG001 -- as structlog calls its processors
    name: str,  # noqa: ARG001
    line: MutableMapping[str, Any],
) -> MutableMapping[str, Any]:
    """The kind of an exception and where it came from; its words may quote what callers told."""
    error = line.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()[1]
    if isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        line["exception"] = list(_chain(error))
    return line


def _chain(error: BaseException | None) -> Iterator[dict[str, Any]]:
    """An exception and those that led to it, the latest first."""
    seen = 0
    while error is not None and seen < _LONGEST_CHAIN:
        seen += 1
        frames = traceback.extract_tb(error.__traceback__)
        where = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
        yield {"kind": type(error).__name__, "where": where}
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


class _StandardError:
    """Writes to standard error as it is now: a test, or a supervisor, may have put it elsewhere."""

    def msg(self, line: str) -> None:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()

    debug = info = warning = error = critical = exception = msg
