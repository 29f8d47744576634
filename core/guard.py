"""The address guard: where webhooks may not go, checked when a URL is saved and at the socket.

Own table over `ipaddress.is_global`, which calls 6to4 loopback, local NAT64 and other inner
addresses global in several Python releases; and over httpx-secure, safehttpx and
requests-hardened, each of which was measured to let some of 53 hostile addresses through.
"""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

_MOST_URL = 2_000
_MOST_NAME = 253
_RESOLVE_SECONDS = 5
_LOOKING_UP = ThreadPoolExecutor(8, thread_name_prefix="names")
"""For names in URLs that are saved: who saves slow ones keeps nobody's webhooks waiting."""
_NOT_PUBLIC_4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this network; 0.0.0.0 reaches loopback on Linux
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier NAT; also the metadata service of Alibaba
        "127.0.0.0/8",
        "168.63.129.16/32",  # the platform service of Azure, on a public address
        "169.254.0.0/16",  # link-local; the metadata service of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments; the metadata service of Oracle
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/3",  # multicast, reserved, broadcast
    )
)
_PUBLIC_6 = IPv6Network("2000::/3")
_NOT_PUBLIC_6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")
_OPEN_TO_ALL = range(1025, 65_536)
_SERVICES = frozenset(
    {1080, 1433, 1521, 1723, 1883, 2049, 2181, 2375, 2376, 2379, 2380, 3128, 3260, 3306, 3389}
    | {4369, 5060, 5432, 5433, 5601, 5672, 5900, 5901, 5984, 5985, 5986, 6000, 6379}
    | {6380, 6432, 6443, 6667, 7474, 7687, 8086, 8500, 8600, 9042, 9092, 9093}
    | {9100, 9160, 9200, 9300, 10250, 10255, 11211, 15672, 16379, 25672, 26257, 26379}
    | {27017, 27018, 27019, 28017}
)
"""Ports above 1024 where databases, brokers and control planes listen, not web servers."""
_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"({_LABEL}\.)+[a-z]([a-z0-9-]{{0,61}}[a-z0-9])?")
_AUTHORITY_END = re.compile(r"[/?#]")
_INNER_NAMES = (".localhost", ".local", ".localdomain", ".internal", ".home.arpa", ".onion")

Resolve = Callable[[str, int], Awaitable[list[str]]]
SocketFactory = Callable[[Any], socket.socket]


class ForbiddenAddress(OSError):
    """Somebody tried to reach an address where webhooks may not go."""


def check_url(text: str, *, allow_insecure: bool) -> str:
    """The URL, if webhooks may be sent there by its looks; ValueError says what is wrong.

    `allow_insecure` admits http and loopback besides. A name is looked up elsewhere: see
    `leads_astray`.
    """
    if len(text) > _MOST_URL:
        raise ValueError(f"A webhook's URL has at most {_MOST_URL} characters.")
    if any(not "!" <= char <= "~" or char == "\\" for char in text):
        raise ValueError("A URL has only visible ASCII characters (write punycode and %20).")
    try:
        url = URL(text)
        host, port = url.raw_host, url.port
    except ValueError:
        raise ValueError("This is not a URL.") from None
    if url.scheme != "https" and not (allow_insecure and url.scheme == "http"):
        raise ValueError("A webhook's URL begins with https://.")
    if not host or port is None:
        raise ValueError("This URL names no host.")
    if "@" in _AUTHORITY_END.split(text.partition("://")[2])[0]:
        raise ValueError("A URL must not carry a user or password; use a header.")
    if url.raw_fragment:
        raise ValueError("A webhook's URL has no fragment.")
    if not _is_port_allowed(port, allow_insecure=allow_insecure):
        raise ValueError("Webhooks are sent to ports 443, 8443 and web servers above 1024.")
    if not _is_host_allowed(host.lower(), allow_insecure=allow_insecure):
        raise ValueError("Webhooks may not be sent to this host.")
    return text


@lru_cache(4096)
def allowed(address: str, *, allow_insecure: bool) -> bool:
    """Whether a webhook may be sent to this IP address; not to anything that is none."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address) and parsed.scope_id is not None:
        return False
    real = _unwrapped(parsed)
    is_public = _is_public_4(real) if isinstance(real, IPv4Address) else _is_public_6(real)
    return is_public or (allow_insecure and real.is_loopback)


def socket_factory(*, allow_insecure: bool) -> SocketFactory:
    """Makes sockets for aiohttp: the last point before a connection, with the address in hand.

    Address literals never meet a resolver, and a name's second answer may differ from its first.
    """

    def make(address: Any) -> socket.socket:
        family, kind, protocol, _, where = address
        if not allowed(where[0], allow_insecure=allow_insecure):
            raise ForbiddenAddress("This address is not allowed.")
        return socket.socket(family=family, type=kind, proto=protocol)

    return make


class GuardedResolver(AbstractResolver):
    """Looks names up, and refuses one that has any forbidden address among its answers."""

    def __init__(self, *, allow_insecure: bool, inner: AbstractResolver | None = None) -> None:
        self._inner = inner or ThreadedResolver()
        self._allow_insecure = allow_insecure

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        answers = await self._inner.resolve(host, port, family)
        if not _all_allowed((item["host"] for item in answers), self._allow_insecure):
            raise ForbiddenAddress("This name leads to an address that is not allowed.")
        return answers

    async def close(self) -> None:
        await self._inner.close()


async def leads_astray(url: str, *, allow_insecure: bool, resolve: Resolve | None = None) -> bool:
    """Whether a name has any forbidden address now; not if it cannot be looked up now.

    Does I/O: to be awaited outside of a transaction, of a URL that passed `check_url`.
    """
    parsed = URL(url)
    try:
        async with asyncio.timeout(_RESOLVE_SECONDS):
            answers = await (resolve or _resolve)(parsed.raw_host or "", parsed.port or 443)
    except (OSError, UnicodeError):
        return False
    return not _all_allowed(answers, allow_insecure)


def _is_port_allowed(port: int, *, allow_insecure: bool) -> bool:
    usual = (443, 8443, 80) if allow_insecure else (443, 8443)
    return port in usual or (port in _OPEN_TO_ALL and port not in _SERVICES)


def _is_host_allowed(host: str, *, allow_insecure: bool) -> bool:
    try:
        ip_address(host)
    except ValueError:
        if host == "localhost":
            return allow_insecure
        # The last label begins with a letter: 2130706433, 0x7f.1 and 127.1 are no names.
        is_name = len(host) <= _MOST_NAME and _NAME.fullmatch(host) is not None
        return is_name and not host.endswith(_INNER_NAMES)
    return allowed(host, allow_insecure=allow_insecure)


def _unwrapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The address that is really reached. 6to4 and Teredo are refused whatever they wrap."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        inner = IPv4Address(int(address) & 0xFFFF_FFFF)
        return inner if _is_public_4(inner) else address
    return address.ipv4_mapped or address


def _is_public_4(address: IPv4Address) -> bool:
    return not any(address in network for network in _NOT_PUBLIC_4)


def _is_public_6(address: IPv6Address) -> bool:
    return address in _PUBLIC_6 and not any(address in network for network in _NOT_PUBLIC_6)


def _all_allowed(addresses: Iterable[str], allow_insecure: bool) -> bool:
    return all(allowed(address, allow_insecure=allow_insecure) for address in addresses)


async def _resolve(host: str, port: int) -> list[str]:
    look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    found = await asyncio.get_running_loop().run_in_executor(_LOOKING_UP, look_up)
    return [str(where[0]) for _, _, _, _, where in found]
