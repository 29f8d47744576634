"""Places: from where somebody calls, as much of it as is worth knowing, and no more."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from core.secrets import Secrets

_FAMILIES = ("Edg", "OPR", "Firefox", "SamsungBrowser", "Chrome", "CriOS", "Safari", "curl")
_NAMED = {"Edg": "Edge", "OPR": "Opera", "SamsungBrowser": "Samsung", "CriOS": "Chrome"}
_PRODUCT = re.compile(r"[A-Za-z][A-Za-z-]{0,19}")


@dataclass(frozen=True)
class Place:
    """An address and what calls from there. It is for the moment: neither is stored as it is."""

    address: str = ""
    agent: str = ""

    @property
    def source(self) -> str:
        """Whose failures are counted together: one IPv4 address, or a network of IPv6."""
        ip = self._ip
        return str(ip_network((ip, 64), strict=False)) if isinstance(ip, IPv6Address) else str(ip)

    @property
    def hint(self) -> str | None:
        """As much of the address as people are shown, such as `203.0.x.x`."""
        ip = self._ip
        if isinstance(ip, IPv4Address):
            return ".".join([*str(ip).split(".")[:2], "x", "x"])
        return None if ip is None else str(ip_network((ip, 32), strict=False))

    @property
    def family(self) -> str | None:
        """Which kind of program it is, such as `Firefox`."""
        for family in _FAMILIES:
            if family in self.agent:
                return _NAMED.get(family, family)
        found = _PRODUCT.match(self.agent)
        return found[0] if found else None

    def digests(self, secrets: Secrets) -> list[str]:
        """By what it is known again: keyed digests of its network and kind of program."""
        ip = self._ip
        width = 48 if isinstance(ip, IPv6Address) else 24
        network = ip and ip_network((ip, width), strict=False)
        return secrets.digests(f"place {network} {self.family}")

    @property
    def _ip(self) -> IPv4Address | IPv6Address | None:
        try:
            ip = ip_address(self.address.partition("%")[0])
        except ValueError:
            return None
        mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
        return mapped or ip

    def __str__(self) -> str:
        return " with ".join(word for word in (self.hint, self.family) if word) or "somewhere"


NOWHERE = Place()
