"""What can happen, how it is recorded, and how it reaches listeners."""

from events.base import Event, event_types, is_event_type
from events.catalogue import *  # noqa: F403 -- the catalogue says what it holds
from events.catalogue import __all__ as _catalogue
from events.log import read_event, record, write_body
from events.vocabulary import payload, to_english, to_indonesian

__all__ = [
    "Event",
    "event_types",
    "is_event_type",
    "payload",
    "read_event",
    "record",
    "to_english",
    "to_indonesian",
    "write_body",
    *_catalogue,
]
