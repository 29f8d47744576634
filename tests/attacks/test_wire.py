"""Requests that can be read in two ways, and addresses and headers meant for somebody else.

Rows 13, 40, 41 and 64 of the threat table, request smuggling, redirects and paths.
"""

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

pytestmark = pytest.mark.on("sqlite")

VIEWER = json.dumps({"query": "{ viewer { actor { id } } }"}).encode()
HIDDEN = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"
"""A second request, in what one reader takes for the body of the first."""
CHUNKED = b"0\r\n\r\n" + HIDDEN
MUTATION = 'mutation { createCustomer(input: {email: "forged@mail.example"}) { created } }'


async def said(house: Any, ask: bytes) -> bytes:
    """Everything that is answered to these bytes."""
    address = urlsplit(house.owner.server.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    answer = b""
    try:
        writer.write(ask)
        async with asyncio.timeout(5):
            while piece := await reader.read(65_536):
                answer += piece
    except ConnectionError:  # cut while something was on its way
        pass
    finally:
        writer.close()
    return answer


def request(*headers: bytes, method: bytes = b"POST", path: bytes = b"/graphql") -> bytes:
    """The head of a request after which the connection is closed."""
    lines = [method + b" " + path + b" HTTP/1.1", b"host: x", b"connection: close", *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


AMBIGUOUS: dict[str, tuple[bytes, ...]] = {
    "a length and chunks": (b"content-length: 4", b"transfer-encoding: chunked"),
    "chunks and a length": (b"transfer-encoding: chunked", b"content-length: 4"),
    "two hosts": (b"host: y",),
    "two lengths": (b"content-length: 0", b"content-length: 38"),
    "a list of lengths": (b"content-length: 0, 38",),
    "a length with a sign": (b"content-length: +5",),
    "a length below nothing": (b"content-length: -1",),
    "a length in hex": (b"content-length: 0x5",),
    "an enormous length": (b"content-length: 99999999999999999999999",),
    "a blank before the colon": (b"transfer-encoding : chunked",),
    "another coding": (b"transfer-encoding: xchunked",),
    "chunks that are not the last coding": (b"transfer-encoding: chunked, identity",),
    "a NUL in a header": (b"x: a\0b", b"content-length: 5"),
    "a lone line end in a header": (b"x: a\rtransfer-encoding: chunked", b"content-length: 5"),
    "a name that is no name": (b"x y: a", b"content-length: 5"),
}


async def test_a_request_that_can_be_read_in_two_ways_is_refused_and_ends_the_connection(
    house: Any,
) -> None:
    answers = {
        name: await said(house, request(*told) + CHUNKED) for name, told in AMBIGUOUS.items()
    }

    wrong = {name: told for name, told in answers.items() if not told.startswith(b"HTTP/1.1 400")}
    assert wrong == {}
    assert {name for name, told in answers.items() if told.count(b"HTTP/1.1 ") != 1} == set()


@pytest.mark.parametrize(
    "chunks",
    [
        b"5;x=\r\nabcde\r\n0\r\n\r\n",
        b"-1\r\n\r\n",
        b"ffffffffffffffffff\r\n",
        b"5 5\r\nabcde",
        b"zz\r\n",
    ],
)
async def test_chunks_that_are_none_are_never_a_fault_of_ours(house: Any, chunks: bytes) -> None:
    head = request(b"content-type: application/json", b"transfer-encoding: chunked")

    answer = await said(house, head + chunks + HIDDEN)

    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.count(b"HTTP/1.1 ") == 1


async def test_of_odd_credentials_none_opens_a_door_or_breaks_anything(house: Any) -> None:
    key = house.owner.key.encode()
    good = b"authorization: Bearer " + key
    odd: dict[str, tuple[bytes, ...]] = {
        "twice": (good, good),
        "another one first": (b"authorization: Bearer 7loc_sc_nobody", good),
        "another scheme first": (b"authorization: Basic eDp5", good),
        "a NUL": (b"authorization: Bearer " + key[:20] + b"\0" + key[20:],),
        "a tab for a blank": (b"authorization: Bearer\t" + key,),
        "no blank": (b"authorization: Bearer" + key,),
        "two keys": (good + b", Bearer " + key,),
        "another scheme": (b"authorization: Token " + key,),
        "capitals": (b"authorization: Bearer " + key.upper(),),
        "letters beyond ASCII": (b"authorization: Bearer " + key + "é".encode(),),
        "as one would say it": (b"authorization: " + key,),
        "a megabyte": (b"authorization: Bearer " + b"x" * 1_000_000,),
        "in a cookie": (b"cookie: authorization=Bearer " + key + b"; session=" + key,),
        "in another header": (b"x-api-key: " + key, b"proxy-authorization: Bearer " + key),
    }
    length = b"content-length: %d" % len(VIEWER)
    for name, told in odd.items():
        answer = await said(
            house, request(b"content-type: application/json", length, *told) + VIEWER
        )
        status = answer[9:12]

        assert status in (b"200", b"400", b"431", b""), (name, answer)
        assert status != b"200" or b"UNAUTHENTICATED" in answer, (name, answer)
        assert house.actor.staff_id.encode() not in answer, name
        assert key not in answer, name
    answer = await said(house, request(b"content-type: application/json", length, good) + VIEWER)
    assert house.actor.staff_id.encode() in answer


async def test_a_key_in_an_address_opens_nothing(house: Any) -> None:
    query, key = "query={viewer{actor{id}}}", house.owner.key
    names = ("key", "api_key", "access_token", "token", "authorization", "Authorization")
    for name in names:
        for path in (f"/graphql?{query}&{name}={key}", f"/hooks/sample/card_issued?{name}={key}"):
            answer = await said(house, request(method=b"GET", path=path.encode()))

            assert answer.startswith(b"HTTP/1.1 401"), (path, answer)


async def test_what_a_page_of_somebody_else_can_send_changes_nothing(house: Any) -> None:
    """Whatever type a form or a script may send by itself, with whatever cookies there are."""
    types = (
        b"text/plain", b"application/x-www-form-urlencoded", b"multipart/form-data; boundary=x",
        b"application/graphql", b"application/octet-stream", b"",
    )  # fmt: skip
    cookie = b"cookie: session=" + house.owner.key.encode()
    body = json.dumps({"query": MUTATION}).encode()
    before = await house.dump()
    for kind in types:
        for method in (b"POST", b"GET"):
            for more in ((), (cookie,)):
                told = (b"content-length: %d" % len(body), *more)
                told += (b"content-type: " + kind,) if kind else ()
                path = b"/graphql" if method == b"POST" else b"/graphql?query=" + b"mutation{x}"
                answer = await said(house, request(*told, method=method, path=path) + body)

                due = b"415" if method == b"POST" else b"401"
                assert answer[9:12] == due, (kind, method, answer)
                assert b"set-cookie" not in answer.lower()
    assert await house.dump() == before


SOMEWHERE = b"evil.example"


async def test_no_answer_leads_elsewhere(house: Any) -> None:
    """Neither the host that was asked for nor slashes make us send anybody anywhere."""
    paths = (
        b"/livez/", b"/graphql/", b"/c/abcdefghijklmnopqrst/", b"/claim/ABCDEFGHJKMN/",
        b"//evil.example/livez", b"//evil.example/livez/", b"/\\evil.example/",
        b"/%2f%2fevil.example/", b"/hooks/", b"/images/", b"http://evil.example/livez/",
        b"/livez?next=https://evil.example", b"/livez/..//evil.example/",
    )  # fmt: skip
    for path in paths:
        for host in (b"x-forwarded-host: " + SOMEWHERE, b"forwarded: host=" + SOMEWHERE):
            head = request(host, method=b"GET", path=path).replace(
                b"host: x\r", b"host: evil.example\r"
            )
            answer = (await said(house, head)).lower()

            assert answer[9:10] in (b"2", b"4"), (path, answer)
            assert b"location:" not in answer, (path, answer)
            assert SOMEWHERE not in answer, (path, answer)


async def test_a_path_never_leads_to_a_file(house: Any) -> None:
    upwards = (
        b"../../../../etc/passwd", b"..%2f..%2f..%2fetc%2fpasswd", b"%2e%2e/%2e%2e/etc/passwd",
        b"..%5c..%5cetc%5cpasswd", b"....//....//etc/passwd", b"%c0%ae%c0%ae/etc/passwd",
        b"/etc/passwd", b"file:///etc/passwd", b"..%00/etc/passwd",
        b"%252e%252e%252fetc%252fpasswd",
    )  # fmt: skip
    places = (
        b"/", b"/images/", b"/codes/", b"/c/", b"/claim/", b"/hooks/", b"/hooks/sample/",
        b"/images/" + b"0" * 64 + b".png/",
    )  # fmt: skip
    for place in places:
        for path in upwards:
            for end in (b"", b".png"):
                head = request(method=b"GET", path=place + path + end)
                answer = await said(house, head)

                assert answer[9:10] == b"4", (place + path, answer)
                assert b"root:" not in answer


def files(folder: Path) -> set[Path]:
    """What lies in a folder, but for the database."""
    return {file for file in folder.rglob("*") if ".db" not in file.name}


async def test_the_name_of_an_uploaded_file_means_nothing(house: Any) -> None:
    before = files(house.deployment.settings.data_dir)
    body = b"name,email\r\nAna,ana@mail.example\r\n"
    answer = await said(
        house,
        request(
            b"authorization: Bearer " + house.owner.key.encode(),
            b'content-disposition: attachment; filename="../../../evil.html"',
            b"content-type: text/html",
            b"content-length: %d" % len(body),
            path=b"/uploads",
        )
        + body,
    )

    assert answer.startswith(b"HTTP/1.1 201")
    told = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert told["mediaType"] == "text/csv"
    assert b"evil" not in answer
    assert files(house.deployment.settings.data_dir) == before
