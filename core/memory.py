"""What is worked out once and remembered: the latest used, as much as there is room for."""

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Memory(Generic[Key, Value]):
    """Values with what each takes; where there is no room for a new one, the longest unused go.

    Threads may share one: documents of endpoints are checked where SQLite writes.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._lock = Lock()
        self._found: OrderedDict[Key, tuple[Value, int]] = OrderedDict()
        self.taken = 0
        """How much of the room is in use."""

    def __contains__(self, key: Key) -> bool:
        return key in self._found

    def get(self, key: Key) -> Value | None:
        """What is remembered, None if nothing is."""
        with self._lock:
            found = self._found.get(key)
            if found is None:
                return None
            self._found.move_to_end(key)
            return found[0]

    def keep(self, key: Key, value: Value, size: int) -> None:
        """Remember a value that takes so much; one that takes more than half the room is not."""
        with self._lock:
            if 2 * size > self._room or key in self._found:
                return
            self._found[key] = value, size
            self.taken += size
            while self.taken > self._room:
                _, (_, gone) = self._found.popitem(last=False)
                self.taken -= gone
