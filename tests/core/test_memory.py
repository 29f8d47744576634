"""What is remembered: the latest used, as much as there is room for."""

from core.memory import Memory


def test_what_was_not_used_for_longest_goes() -> None:
    memory: Memory[str, int] = Memory(10)
    for name in "abc":
        memory.keep(name, ord(name), 3)
    assert memory.get("a") == ord("a")  # and so it is the latest
    memory.keep("d", ord("d"), 4)

    assert [memory.get(name) for name in "abcd"] == [ord("a"), None, ord("c"), ord("d")]
    assert memory.taken == 10


def test_what_would_push_out_all_else_is_not_kept() -> None:
    memory: Memory[str, int] = Memory(10)
    memory.keep("a", 1, 5)
    memory.keep("b", 2, 6)

    assert "a" in memory
    assert "b" not in memory
    assert memory.taken == 5


def test_what_is_known_is_counted_once() -> None:
    memory: Memory[str, int] = Memory(10)
    memory.keep("a", 1, 2)
    memory.keep("a", 3, 4)

    assert memory.get("a") == 1
    assert memory.taken == 2
