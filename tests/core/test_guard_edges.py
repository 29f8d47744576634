"""The address guard at its edges: the last thing admitted, and the first refused."""

import asyncio
import socket
import threading
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

import core.guard
from core.guard import ForbiddenAddress, GuardedResolver, check_url, leads_astray, socket_factory

INNER_SERVICES = {
    "SOCKS": [1080],
    "SQL Server, Oracle, MySQL, PostgreSQL": [1433, 1521, 3306, 5432, 5433, 6432],
    "PPTP, NFS, iSCSI, remote desktops, X": [1723, 2049, 3260, 3389, 5900, 5901, 6000],
    "WinRM, SIP, IRC": [5060, 5985, 5986, 6667],
    "MQTT, AMQP, Erlang, Kafka, RabbitMQ": [1883, 4369, 5672, 9092, 9093, 15672, 25672],
    "ZooKeeper, etcd, Docker, Kubernetes": [2181, 2375, 2376, 2379, 2380, 6443, 10250, 10255],
    "Squid, Kibana, CouchDB": [3128, 5601, 5984],
    "Redis and its sentinels": [6379, 6380, 16379, 26379],
    "Neo4j, InfluxDB, Consul, Cassandra": [7474, 7687, 8086, 8500, 8600, 9042, 9160],
    "Prometheus, Elasticsearch, memcached": [9100, 9200, 9300, 11211],
    "CockroachDB, MongoDB": [26257, 27017, 27018, 27019, 28017],
}


def is_saved(url: str, *, allow_insecure: bool = False) -> bool:
    """Whether a URL is good enough to be kept."""
    try:
        return check_url(url, allow_insecure=allow_insecure) == url
    except ValueError:
        return False


def test_every_port_is_a_web_servers_or_closed() -> None:
    closed = {port for ports in INNER_SERVICES.values() for port in ports}

    admitted = {
        port for port in range(65_536) if core.guard._is_port_allowed(port, allow_insecure=False)
    }

    assert admitted == {443} | (set(range(1025, 65_536)) - closed)


@pytest.mark.parametrize(
    ("port", "is_admitted"), [(443, True), (8443, True), (80, True), (81, False), (444, False)]
)
def test_in_development_the_port_of_http_is_open_too(port: int, is_admitted: bool) -> None:
    assert is_saved(f"http://partner.example:{port}/", allow_insecure=True) is is_admitted
    assert is_saved(f"https://partner.example:{port}/") is (is_admitted and port != 80)


@pytest.mark.parametrize(
    "url",
    [
        "https://partner.example/@shop?from=@till",
        "https://partner.example?mail=ana@kopi.example",
        "https://partner.example/?to=https://ana@kopi.example/",
        "https://partner.example/!~",
        "https://partner.example/".ljust(2000, "a"),
        f"https://{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 61}/",
        "https://partner.example:1025/",
        "https://partner.example:65535/",
    ],
)
def test_what_just_passes_is_kept_as_it_is(url: str) -> None:
    assert check_url(url, allow_insecure=False) == url


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://ana@kopi.example/?to=https://partner.example", "user or password"),
        ("https://partner.example/".ljust(2001, "a"), "at most 2000"),
        (f"https://{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 62}/", "this host"),
        ("https://partner.example/\x7f", "visible ASCII"),
        ("https://partner.example:1024/", "ports"),
        ("https://shop.localdomain/", "this host"),
        ("https://router.home.arpa/", "this host"),
        ("https://shop.onion/", "this host"),
    ],
)
def test_what_just_fails_is_refused(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check_url(url, allow_insecure=False)


def test_a_socket_is_made_as_it_was_asked_for() -> None:
    where = ("2606:4700:4700::1111", 443, 0, 0)
    make = socket_factory(allow_insecure=False)

    with make((socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_UDP, "", where)) as made:
        assert (made.family, made.type, made.proto) == (
            socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_UDP,
        )  # fmt: skip


def test_a_socket_to_an_inner_address_is_not_made_and_the_refusal_says_so() -> None:
    address = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 443))

    with pytest.raises(ForbiddenAddress, match="This address is not allowed"):
        socket_factory(allow_insecure=False)(address)
    socket_factory(allow_insecure=True)(address).close()


class Book(AbstractResolver):
    """A resolver that notes what it is asked, and always has the same answer."""

    def __init__(self, answer: str) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self._answer = answer

    async def resolve(
        self, host: str, port: int = 0, family: int = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append((host, port, family))
        return [
            ResolveResult(
                hostname=host, host=self._answer, port=port, family=family, proto=0, flags=0
            )
        ]

    async def close(self) -> None:
        self.asked.append(("closed",))


async def test_the_resolver_asks_as_it_was_asked_and_hands_the_answers_on() -> None:
    book = Book("8.8.8.8")
    guarded = GuardedResolver(allow_insecure=False, inner=book)

    answers = await guarded.resolve("partner.example", 443, socket.AF_INET6)
    await guarded.resolve("partner.example")
    await guarded.close()

    assert [answer["host"] for answer in answers] == ["8.8.8.8"]
    assert book.asked == [
        ("partner.example", 443, socket.AF_INET6),
        ("partner.example", 0, socket.AF_UNSPEC),
        ("closed",),
    ]


async def test_the_resolver_says_why_it_refuses_and_admits_loopback_in_development() -> None:
    with pytest.raises(ForbiddenAddress, match="This name leads to an address"):
        await GuardedResolver(allow_insecure=False, inner=Book("::1")).resolve("partner.example")

    found = await GuardedResolver(allow_insecure=True, inner=Book("::1")).resolve("localhost")

    assert [answer["host"] for answer in found] == ["::1"]


async def test_a_name_of_loopback_leads_nowhere_wrong_in_development() -> None:
    async def loopback(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    said = [
        await leads_astray("http://localhost:9000/", allow_insecure=allows, resolve=loopback)
        for allows in (True, False)
    ]

    assert said == [False, True]


async def test_a_name_is_looked_up_with_its_port(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def answer(host: str, port: int, **how: Any) -> list[Any]:
        asked.append((host, port, how))
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", port))]

    monkeypatch.setattr(socket, "getaddrinfo", answer)

    said = [
        await leads_astray(url, allow_insecure=False)
        for url in ("https://partner.example/", "https://partner.example:8443/")
    ]

    assert said == [False, False]
    how = {"type": socket.SOCK_STREAM}
    assert asked == [("partner.example", 443, how), ("partner.example", 8443, how)]


async def test_a_name_that_takes_too_long_is_looked_up_no_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def never(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr(core.guard, "_RESOLVE_SECONDS", 0.01)

    async with asyncio.timeout(20):
        said = await leads_astray("https://partner.example/", allow_insecure=True, resolve=never)

    assert said is False


async def test_slow_names_that_are_saved_leave_room_to_look_up_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each holds a thread for as long as its server likes; a loop has few of its own."""
    go_on = threading.Event()

    def answer(host: str, *_: Any, **__: Any) -> list[Any]:
        if host.startswith("slow"):
            go_on.wait(20)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", 443))]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    saved = [
        asyncio.create_task(leads_astray(f"https://slow{n}.example/", allow_insecure=False))
        for n in range(50)
    ]
    try:
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            found = await asyncio.get_running_loop().getaddrinfo("quick.example", 443)
    finally:
        go_on.set()
        await asyncio.gather(*saved)

    assert found[0][4] == ("8.8.8.8", 443)
