"""Bodies of plain requests: read to a bound, and told apart where they cannot be."""

from collections.abc import Iterable

import pytest
from starlette.requests import Request
from starlette.types import Message

from endpoints.answers import BadRequest, body_of, object_of


def a_request(*pieces: bytes, breaks_off: bool = False) -> Request:
    """A request whose body comes in these pieces, and then to its end or not."""

    def messages() -> Iterable[Message]:
        for piece in pieces:
            yield {"type": "http.request", "body": piece, "more_body": True}
        if breaks_off:
            yield {"type": "http.disconnect"}
        yield {"type": "http.request", "body": b"", "more_body": False}

    coming = iter(messages())

    async def receive() -> Message:
        return next(coming)

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


async def test_a_body_is_read_to_its_bound_and_not_a_byte_further() -> None:
    assert await body_of(a_request(b"ab", b"cd"), 4, "A call") == b"abcd"

    with pytest.raises(BadRequest, match=r"A call has at most 3 bytes\.") as refusal:
        await body_of(a_request(b"ab", b"cd", breaks_off=True), 3, "A call")
    assert refusal.value.status == 413


async def test_a_body_that_breaks_off_is_no_shorter_body() -> None:
    with pytest.raises(BadRequest, match=r"A call did not come in whole\.") as refusal:
        await body_of(a_request(b"{}", breaks_off=True), 100, "A call")
    assert refusal.value.status == 400


async def test_an_object_is_read_and_nothing_else() -> None:
    assert await object_of(a_request(b'{"a"', b": 1}"), 100, "A call") == {"a": 1}

    for wrong, why in ((b"[1]", "A call is an object."), (b"{", "not JSON"), (b"\xff", "not JSON")):
        with pytest.raises(BadRequest, match=why) as refusal:
            await object_of(a_request(wrong), 100, "A call")
        assert refusal.value.status == 400
