"""The address guard, against every hostile address and spelling we know of."""

import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from core.clock import SystemClock
from core.guard import allowed, check_url, leads_astray, socket_factory
from webhooks.parcels import Address, Parcel
from webhooks.sender import Answer, Sender

FORBIDDEN = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.1.2.3",
    "168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.0.192",
    "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.19.255.255", "198.51.100.1",
    "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:10.0.0.1",
    "::ffff:0:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b::10.0.0.1",
    "64:ff9b:1::1", "64:ff9b:1::a9fe:a9fe", "100::1", "100:0:0:1::1", "2001::1",
    "2001:0:7f00:1::", "2001:0:4136:e378:8000:63bf:80ff:fffe", "2001:2::1", "2001:10::1",
    "2001:20::1", "2001:db8::1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2002:a00:1::", "3fff::1",
    "4000::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1",
    "ff02::1", "ff0e::1",
]  # fmt: skip
PUBLIC = ["1.1.1.1", "8.8.8.8", "2606:4700:4700::1111", "2a00:1450::1", "::ffff:8.8.8.8",
          "64:ff9b::8.8.8.8"]  # fmt: skip
SPELLINGS_OF_LOOPBACK = ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0", "0x7f.0.0.1",
                         "127.0.0.1.", "①②⑦.0.0.1", "127。0。0。1", "%31%32%37.0.0.1",
                         "[::ffff:7f00:1]", "[::1]", "[0:0:0:0:0:0:0:1]"]  # fmt: skip
ID = "evt_01jwsample0000000000000000"


@pytest.mark.parametrize("address", FORBIDDEN)
def test_no_webhook_goes_to(address: str) -> None:
    assert allowed(address, allow_insecure=False) is False


@pytest.mark.parametrize("address", PUBLIC)
def test_webhooks_go_to(address: str) -> None:
    assert allowed(address, allow_insecure=False) is True


def test_in_development_loopback_is_admitted_and_nothing_else() -> None:
    admitted = [address for address in FORBIDDEN if allowed(address, allow_insecure=True)]

    assert admitted == ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"]


@pytest.mark.parametrize("text", ["", "localhost", "example.com", "127.1", "1.2.3"])
def test_what_is_no_address_is_not_allowed(text: str) -> None:
    assert allowed(text, allow_insecure=True) is False


@pytest.mark.parametrize(
    "url",
    [
        "https://partner.example/hooks",
        "https://partner.example:8443/hooks?shop=1",
        "https://partner.example:9000/",
        "https://xn--caf-dma.example/",
        "https://8.8.8.8/hooks",
        "https://[2606:4700:4700::1111]/",
        "https://a_b.partner.example/",
    ],
)
def test_a_good_url_is_kept_as_it_is(url: str) -> None:
    assert check_url(url, allow_insecure=False) == url


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://partner.example/", "begins with https"),
        ("ftp://partner.example/", "begins with https"),
        ("//partner.example/", "begins with https"),
        ("partner.example", "begins with https"),
        ("", "begins with https"),
        ("https://", "no host|not a URL"),
        ("https:///hooks", "no host|not a URL"),
        ("https://user:secret@partner.example/", "user or password"),
        ("https://user@partner.example/", "user or password"),
        ("https://@partner.example/", "user or password"),
        ("https://partner.example/#part", "fragment"),
        ("https://partner.example/\r\nX-Evil: 1", "visible ASCII"),
        ("https://partner.example/a b", "visible ASCII"),
        ("https://partner.example\\@127.0.0.1/", "visible ASCII"),
        ("https://café.example/", "visible ASCII"),
        ("https://partner.example:22/", "ports"),
        ("https://partner.example:25/", "ports"),
        ("https://partner.example:80/", "ports"),
        ("https://partner.example:0/", "ports"),
        ("https://partner.example:5432/", "ports"),
        ("https://partner.example:6379/", "ports"),
        ("https://partner.example:99999/", "ports|not a URL"),
        ("https://partner/", "this host"),
        ("https://localhost/", "this host"),
        ("https://db.localhost/", "this host"),
        ("https://metadata.google.internal/", "this host"),
        ("https://printer.local/", "this host"),
        ("https://partner.example./", "this host"),
        ("https://partner..example/", "this host|not a URL"),
        ("https://1.2.3/", "this host|not a URL"),
        ("https://" + "a" * 2000 + ".example/", "at most 2000"),
    ],
)
def test_a_bad_url_is_refused(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check_url(url, allow_insecure=False)


@pytest.mark.parametrize(
    "host", [*SPELLINGS_OF_LOOPBACK, *(f"[{host}]" if ":" in host else host for host in FORBIDDEN)]
)
def test_no_spelling_of_an_inner_address_is_saved(host: str) -> None:
    with pytest.raises(ValueError, match=r"host|ASCII|not a URL|begins with"):
        check_url(f"https://{host}/", allow_insecure=False)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9000/", "http://localhost:9000/", "http://[::1]:9000/"]
)
def test_in_development_a_url_of_loopback_is_saved(url: str) -> None:
    assert check_url(url, allow_insecure=True) == url
    with pytest.raises(ValueError, match="https"):
        check_url(url, allow_insecure=False)


@pytest.mark.parametrize("url", ["http://10.0.0.1:9000/", "http://[::ffff:10.0.0.1]:9000/"])
def test_in_development_other_inner_addresses_are_still_refused(url: str) -> None:
    with pytest.raises(ValueError, match="this host"):
        check_url(url, allow_insecure=True)


async def test_a_name_with_any_forbidden_answer_is_refused_when_it_is_saved() -> None:
    async def mixed(host: str, port: int) -> list[str]:
        return ["8.8.8.8", "127.0.0.1"]

    async def good(host: str, port: int) -> list[str]:
        return ["8.8.8.8", "2606:4700:4700::1111"]

    async def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror(-2, "Name or service not known")

    said = [
        await leads_astray("https://partner.example/", allow_insecure=False, resolve=resolve)
        for resolve in (mixed, good, unknown)
    ]

    assert said == [True, False, False]


@dataclass
class Recorder:
    """A socket factory that notes what is dialled, and lets nothing but loopback through."""

    dialled: list[str] = field(default_factory=list)

    def __call__(self, address: Any) -> socket.socket:
        made = socket_factory(allow_insecure=False)(address)
        self.dialled.append(address[4][0])
        made.close()
        raise ConnectionRefusedError


class Liar(AbstractResolver):
    """A resolver whose answers are told beforehand, one list after the other."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = list(answers)

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: int = socket.AF_INET,  # noqa: ARG002 -- its shape
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host, host=told, port=port, family=_family(told), proto=0, flags=0
            )
            for told in self._answers.pop(0)
        ]

    async def close(self) -> None:
        """There is nothing to close."""


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def guarded(recorder: Recorder) -> AsyncIterator[Any]:
    """Send to a URL, whose name has these answers."""
    senders: list[Sender] = []

    async def send(url: str, *answers: list[str]) -> Answer:
        sender = Sender(SystemClock(), deadline=2, make_socket=recorder, resolver=Liar(*answers))
        senders.append(sender)
        await sender.open()
        return await sender.send(Parcel(Address("we_1", url, (b"key",), {}), ID, b"{}"))

    yield send
    for sender in senders:
        await sender.close()


@pytest.mark.parametrize("address", [told for told in FORBIDDEN if "%" not in told])
async def test_a_forbidden_literal_is_not_dialled(
    address: str, guarded: Any, recorder: Recorder
) -> None:
    host = f"[{address}]" if ":" in address else address

    answer = await guarded(f"https://{host}/")

    assert answer.error == "address"
    assert recorder.dialled == []


@pytest.mark.parametrize("address", [told for told in FORBIDDEN if "%" not in told])
async def test_a_name_of_a_forbidden_address_is_not_dialled(
    address: str, guarded: Any, recorder: Recorder
) -> None:
    answer = await guarded("https://partner.example/", [address])

    assert answer.error == "address"
    assert recorder.dialled == []


async def test_a_name_with_any_forbidden_address_is_not_dialled_at_all(
    guarded: Any, recorder: Recorder
) -> None:
    answer = await guarded("https://partner.example/", ["8.8.8.8", "127.0.0.1"])

    assert answer.error == "address"
    assert recorder.dialled == []


@pytest.mark.parametrize("address", PUBLIC)
async def test_a_public_address_is_dialled(address: str, guarded: Any, recorder: Recorder) -> None:
    answer = await guarded("https://partner.example/", [address])

    assert answer.error == "connect"
    assert recorder.dialled == [address]


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0"])
async def test_a_spelling_that_getaddrinfo_takes_for_loopback_is_not_dialled(host: str) -> None:
    recorder = Recorder()
    sender = Sender(SystemClock(), deadline=2, make_socket=recorder)
    await sender.open()

    answer = await sender.send(Parcel(Address("we_1", f"https://{host}/", (b"k",), {}), ID, b"{}"))
    await sender.close()

    assert answer.error in ("address", "url")
    assert recorder.dialled == []


async def test_a_name_that_turns_to_loopback_later_is_not_dialled(recorder: Recorder) -> None:
    sender = Sender(
        SystemClock(),
        deadline=2,
        make_socket=recorder,
        resolver=Liar(["8.8.8.8"], ["127.0.0.1"], ["8.8.4.4"]),
    )
    await sender.open()
    parcel = Parcel(Address("we_1", "https://partner.example/", (b"key",), {}), ID, b"{}")

    errors = [(await sender.send(parcel)).error for _ in range(3)]
    await sender.close()

    assert errors == ["connect", "address", "connect"]
    assert recorder.dialled == ["8.8.8.8", "8.8.4.4"]
