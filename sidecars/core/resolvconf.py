"""What the system says about names: the search path of resolv.conf, and the hosts file; read anew when they change."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")

_MOST_DOTS = 15  # what glibc takes of ndots at most


class Search(msgspec.Struct, frozen=True):
    """How a name is completed: domains, tried first unless the name has so many dots."""

    domains: tuple[str, ...] = ()
    dots: int = 1

    def names(self, name: str) -> tuple[str, ...]:
        """Give the absolute names to ask for, in order.

        redis.cache in a pod -> redis.cache.default.svc.cluster.local., ..., redis.cache.

        A name with a dot at its end is absolute already. Source: resolv.conf(5), as glibc does it.
        """
        if name.endswith("."):
            return (name,)
        searched = [f"{name}.{domain}." if domain else f"{name}." for domain in self.domains]
        order = [f"{name}.", *searched] if name.count(".") >= self.dots else [*searched, f"{name}."]
        return tuple(dict.fromkeys(order))


Hosts = dict[str, tuple[str, ...]]


def parse_search(text: str) -> Search:
    """Read the search path and ndots of a resolv.conf; what else it says is c-ares's to know.

    The last of several search or domain lines counts. Source: resolv.conf(5).
    """
    domains: tuple[str, ...] = ()
    dots = 1
    for line in text.splitlines():
        match line.split():
            case ["search" | "domain", *given]:
                domains = tuple(domain.rstrip(".") for domain in given)
            case ["options", *options]:
                dots = next((_dots(each) for each in reversed(options) if each.startswith("ndots:")), dots)
    return Search(domains, dots)


def _dots(option: str) -> int:
    number = option.removeprefix("ndots:")
    return min(int(number), _MOST_DOTS) if number.isascii() and number.isdigit() else 1


def parse_hosts(text: str) -> Hosts:
    """Read a hosts file: names in small letters, with their addresses in order; what is no address is passed over."""
    hosts: dict[str, list[str]] = {}
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        if is_address(address):
            for name in names:
                hosts.setdefault(name.lower().rstrip("."), []).append(address)
    return {name: tuple(dict.fromkeys(addresses)) for name, addresses in hosts.items()}


def is_address(text: str) -> bool:
    """Say whether it is an IPv4 or IPv6 address, as 10.0.0.7, 2001:db8::1 or fe80::1%eth0, and no name."""
    return family(text) is not None


def family(text: str) -> socket.AddressFamily | None:
    """Say of which family an address is; None when it is none."""
    for each, written in ((socket.AF_INET, text), (socket.AF_INET6, text.partition("%")[0])):
        try:
            socket.inet_pton(each, written)
        except (OSError, ValueError):
            continue
        return each
    return None


class Remembered(Generic[T]):
    """A small file of the system, parsed; a file that is not there, or not text, is as an empty one."""

    def __init__(self, path: str, parse: Callable[[str], T]) -> None:
        self._path = path
        self._parse = parse
        self._seen: tuple[int, ...] | None = None
        self._parsed = parse("")

    def get(self) -> T:
        """Give what it says now."""
        try:
            status = os.stat(self._path)
            seen = (status.st_ino, status.st_mtime_ns, status.st_size)
            if seen != self._seen:
                with open(self._path, encoding="utf-8", errors="replace") as file:
                    self._parsed, self._seen = self._parse(file.read()), seen
        except OSError:
            self._parsed, self._seen = self._parse(""), None
        return self._parsed


def local(name: str) -> Iterator[str]:
    """Give the addresses of localhost and the names below it, which no server is asked for (RFC 6761)."""
    if name.rstrip(".").lower().rpartition(".")[2] == "localhost":
        yield from ("127.0.0.1", "::1")
