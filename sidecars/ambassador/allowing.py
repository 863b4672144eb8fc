"""Who may connect: a listener's list of addresses and networks."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from sidecars.core.errors import WrongSettings

_REMEMBERED = 4096  # addresses; a pod's clients are few, and an attacker's are many


class Allowed:
    """The addresses and networks of a listener's allow list; an empty one permits all.

        Allowed(("10.0.0.0/8", "2001:db8::1")).permits("10.1.2.3") -> True

    Raises WrongSettings where one is neither an address nor a network.
    """

    def __init__(self, networks: Iterable[str]) -> None:
        # By version and prefix length: the first bits of each network, as a number. A look-up is one for each length.
        self._networks: dict[tuple[int, int], set[int]] = {}
        self._known: dict[str, bool] = {}
        for written in networks:
            network = _network(written)
            shift = network.max_prefixlen - network.prefixlen
            bits = int(network.network_address) >> shift
            self._networks.setdefault((network.version, shift), set()).add(bits)

    def permits(self, ip: str | None) -> bool:
        """Say whether a client of this address may connect; one of a unix socket, None, always may.

        A client of an IPv4 network is known also by ::ffff:10.1.2.3, and a zone (%eth0) is no matter.
        """
        if not self._networks or ip is None:
            return True
        known = self._known.get(ip)
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[ip] = self._look_up(ip)
        return known

    def _look_up(self, ip: str) -> bool:
        try:
            address = ipaddress.ip_address(ip.partition("%")[0])
        except ValueError:
            return False
        if address.version == 6 and address.ipv4_mapped:
            address = address.ipv4_mapped
        number, version = int(address), address.version
        return any(number >> shift in bits for (of, shift), bits in self._networks.items() if of == version)


def _network(written: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(written)
    except ValueError:
        pass
    try:
        meant = ipaddress.ip_network(written, strict=False)
    except ValueError:
        raise WrongSettings(f"allow is {written!r}, expected an address, or a network such as 10.0.0.0/8") from None
    raise WrongSettings(f"allow is {written!r}, which has bits set beyond its prefix; write {meant}")
