"""What an operator's settings must be to make sense: each refusal says what to do instead."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from sidecars.core.errors import WrongSettings
from sidecars.core.resolvconf import is_address
from sidecars.core.units import Address

if TYPE_CHECKING:
    from sidecars.ambassador.settings import (
        Check,
        ClientTls,
        Eject,
        HttpCheck,
        Listener,
        Redis,
        ServerTls,
        Settings,
        TcpCheck,
        Upstream,
    )

EXAMPLE = "ambassador ':6379=redis://a:6379,b:6379' :5432=tcp://db:5432"
_LOOPBACK, _ANY = ("127.0.0.1", "::1"), ("0.0.0.0", "::")  # noqa: S104
_MOST_WEIGHT = 1_000_000
_OR_OFF = ", or off"


def _at_least(least: float, part: object, *names: str) -> None:
    for name in names:
        value = getattr(part, name)
        if value is not None and value < least:
            raise ValueError(f"has {name} {value}, expected {least:g} or more")


def _above_zero(part: object, *names: str, instead: str = "") -> None:
    for name in names:
        value = getattr(part, name)
        if value is not None and value <= 0:
            raise ValueError(f"has {name} {value}, expected more than 0{instead}")


def client_tls(tls: ClientTls) -> None:
    """Check what is said of TLS towards an upstream."""
    if tls.cert_key and not tls.cert:
        raise ValueError("has cert_key without cert; give cert too, or leave cert_key out")
    if not tls.verify and (tls.names or tls.ca):
        raise ValueError("has verify off, so that ca and names are for nothing; leave them out, or turn it on")
    _protocols(tls.alpn)


def server_tls(tls: ServerTls) -> None:
    """Check what is said of TLS towards clients."""
    if not tls.cert:
        raise ValueError("has an empty cert; give the path of the certificate")
    if tls.names and not tls.client_ca:
        raise ValueError("has names without client_ca; give client_ca, by which clients are asked for a certificate")
    _protocols(tls.alpn)


def _protocols(names: Iterable[str]) -> None:
    # A byte says how long each is.
    if wrong := [name for name in names if not re.fullmatch(r"[!-~]{1,255}", name)]:
        raise ValueError(f"has alpn {wrong[0]!r}, expected the name of a protocol, as h2 or postgresql")


def tcp_check(asked: TcpCheck) -> None:
    """Check what is sent and expected."""
    from sidecars.ambassador.checks import unescaped  # only who has such a check pays for asyncio at this point

    for name in ("send", "expect"):
        text = getattr(asked, name)
        try:
            unescaped(text or "")
        except ValueError as error:
            raise ValueError(
                f"has {name} {text!r}, in which {error} is no escape; write \\\\ for a backslash"
            ) from None


def http_check(asked: HttpCheck) -> None:
    """Check what is asked by HTTP."""
    if not re.fullmatch(r"/[!-~]*", asked.path):
        raise ValueError(f"has path {asked.path!r}, expected one that begins with / and has no spaces")
    if wrong := [status for status in asked.status if not 100 <= status <= 599]:
        raise ValueError(f"has status {wrong[0]}, expected 100 to 599")


def check(asked: Check) -> None:
    """Check how upstreams are asked."""
    kinds = [kind for kind in ("tcp", "http", "redis") if getattr(asked, kind) is not None]
    if not kinds:
        raise ValueError("does not say how to ask; give one of tcp: {}, http: {} and redis: {}")
    if len(kinds) > 1:
        raise ValueError(f"has {' and '.join(kinds)}; keep one")
    _at_least(0.1, asked, "interval")
    _above_zero(asked, "timeout")
    _at_least(1, asked, "rise", "fall")


def eject(rule: Eject) -> None:
    """Check when an upstream is left out."""
    _at_least(0, rule, "failures")
    _above_zero(rule, "time")
    if rule.max_time < rule.time:
        raise ValueError(f"has max_time {rule.max_time}, which is less than time, {rule.time}; give as much or more")
    if not 0 <= rule.max_share <= 100:
        raise ValueError(f"has max_share {rule.max_share}, expected percent: 0 to 100")


def redis(mode: Redis) -> None:
    """Check what is said of Redis."""
    if mode.hash_tag is not None and len(mode.hash_tag.encode()) != 2:
        raise ValueError(f"has hash_tag {mode.hash_tag!r}, expected two characters, as {{}}")
    _above_zero(mode, "timeout", instead=_OR_OFF)
    _at_least(1, mode, "connections")
    _at_least(0, mode, "database")
    _at_least(1024, mode, "max_request")
    if mode.user and mode.password is None:
        raise ValueError("has user without password; give password_file, or leave user out")
    if mode.client_user and mode.client_password is None:
        raise ValueError("has client_user without client_password; give client_password_file, or leave client_user out")


def upstream(one: Upstream) -> None:
    """Check where connections go."""
    where = one.address.removeprefix("unix://")
    if not _dialled(where):
        raise ValueError(
            f"has address {one.address!r}, expected HOST:PORT, [::1]:PORT, srv://NAME, or the path of a unix socket"
        )
    if not 1 <= one.weight <= _MOST_WEIGHT:
        hint = "; leave it out, to send it nothing" if one.weight == 0 else ""
        raise ValueError(f"has weight {one.weight}, expected 1 to {_MOST_WEIGHT}{hint}")
    if one.path is not None and not re.fullmatch(r"(/[!$-.0->@-~]+)+", one.path):
        raise ValueError(f"has path {one.path!r}, expected one as /v1: no / at its end, no spaces, and no ?")
    if one.name is not None and not one.name:
        raise ValueError("has an empty name; give one, or leave name out")


def _dialled(where: str) -> bool:
    """It can be dialled: a port of a host whose labels a name server can be asked for, a path, a service."""
    if where.startswith("/"):
        return _path(where)
    if where.startswith("srv://"):
        return _host(where.removeprefix("srv://"))
    try:
        address = Address(where)
    except ValueError:
        return False
    return address.port > 0 and _host(address.host)


def _path(where: str) -> bool:
    # What the kernel has room for, in bytes, with the NUL at the end.
    return len(os.fsencode(where)) < 108 and "\0" not in where and not where.endswith("/")


def _host(host: str) -> bool:
    if ":" in host:
        return _is_ip(host)
    # A last dot says that the name is complete.
    labels = host.removesuffix(".").split(".")
    return all(re.fullmatch(r"[\w-]{1,63}", label) for label in labels) and len(host) <= 255


def listener(one: Listener) -> None:
    """Check one listener."""
    _listens(one.listen)
    if not one.upstreams:
        raise ValueError("has no upstreams; give one or more")
    names = [each.name or each.address for each in one.upstreams]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"has the upstream {twice[0]!r} twice; leave one out, or give them names")
    if not re.fullmatch(r"0?[0-7]{3}", one.mode):
        raise ValueError(f"has mode {one.mode!r}, expected octal digits, as 0660")
    _numbers(one)
    if one.redis is not None:
        _sharded(one)
    if one.allow:
        _allowed(one.allow)
    if one.http is not None:
        from sidecars.ambassador.http import checking as http  # only who has it pays for it

        http.listener(one)
    elif any(each.path for each in one.upstreams):
        raise ValueError("has an upstream with a path, but no http; give http: {} too")


def _numbers(one: Listener) -> None:
    _above_zero(one, "connect_timeout")
    _above_zero(one, "idle_timeout", "max_age", "rate", instead=_OR_OFF)
    _at_least(0, one, "retries", "queue", "queue_timeout")
    _at_least(1, one, "max_connections", "upstream_connections", "max_pending", "burst")


def _sharded(one: Listener) -> None:
    """Refuse what has no meaning when clients share the connections to shards."""
    if one.balance != "round-robin":
        raise ValueError(f"has balance {one.balance}, but it is the key that says the shard; leave balance out")
    for each in one.upstreams:
        if each.address.startswith("srv://"):
            raise ValueError(f"has the upstream {each.address}, but a shard is one server; list the shards by name")
        if each.proxy_protocol:
            raise ValueError("has proxy_protocol, but clients share the connections to shards; leave it out")


def _listens(listen: str) -> None:
    if listen.removeprefix("unix://").startswith("/"):
        if not _path(listen.removeprefix("unix://")):
            raise ValueError(f"has listen {listen!r}, expected a path of at most 107 bytes that ends in a name")
        return
    try:
        host = Address(_plain(listen)).host
    except ValueError:
        hint = f"; write :{listen}" if listen.isdecimal() else ""
        raise ValueError(
            f"has listen {listen!r}, expected :PORT for loopback, IP:PORT, *:PORT for every interface, or the path of "
            f"a unix socket{hint}"
        ) from None
    if host not in ("", "localhost") and not _is_ip(host):
        # A name may be another address tomorrow; looking it up may take its time.
        raise ValueError(f"has listen {listen!r}, expected an IP address of this machine; *:PORT is all of them")


def _plain(listen: str) -> str:
    """Give *:PORT as HOST:PORT."""
    return f"{_ANY[0]}{listen[1:]}" if listen.startswith("*:") else listen


def _is_ip(host: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host.partition("%")[0])
    except OSError:
        return False
    return True


def _allowed(networks: Iterable[str]) -> None:
    import ipaddress  # only who has such a list pays for it

    for network in networks:
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            raise ValueError(f"has allow {network!r}, which is no network: {error}; write 10.0.0.0/8 or ::1") from None


def settings(found: Settings, listeners: Sequence[Listener]) -> None:
    """Check what no single setting can say; WrongSettings."""
    if not 1 <= found.workers <= 256:
        raise WrongSettings(f"--workers is {found.workers}, expected 1 to 256; as many as there are cores is plenty")
    if found.access_log is not None and not found.access_log:
        raise WrongSettings("--access-log is empty; give stdout, the path of a file, or off")
    if found.stats not in (None, "off"):
        _stats(str(found.stats))
    for each in found.nameserver:
        if not is_address(each.host) or not each.port:
            raise WrongSettings(f"--nameserver is {each!r}, expected an address and a port, as 10.96.0.10:53")
    _distinct(listeners, found.admin)
    _files(listeners, found.allow_public)


def _files(listeners: Sequence[Listener], allow_public: bool) -> None:
    """Read what is in files now, so that what is wrong there is found before it is used."""
    for one in listeners:
        if one.tls or any(each.tls for each in one.upstreams):
            from sidecars.ambassador import tls  # only who speaks TLS pays for it

            tls.check(one)
    if any(one.http for one in listeners):
        from sidecars.ambassador.http import starting

        starting.check(listeners, allow_public)


def _stats(text: str) -> None:
    try:
        Address(text)
    except ValueError:
        raise WrongSettings(f"--stats is {text!r}, expected HOST:PORT, :PORT or off") from None


def _distinct(listeners: Sequence[Listener], admin: Address | None) -> None:
    """Refuse two that want one port of one address, or one path."""
    taken: list[tuple[str, int, tuple[str, ...]]] = []
    if admin is not None:
        taken.append((f"--admin {admin}", admin.port, _ANY if not admin.host else _hosts(admin.host)))
    for one in listeners:
        port, hosts = _taken(one.listen)
        for name, other_port, others in taken:
            if name == one.listen or (port and port == other_port and _meet(hosts, others)):
                raise WrongSettings(f"{one.listen} and {name} want the same {_noun(port)}; choose another for one")
        taken.append((one.listen, port, hosts))


def _taken(listen: str) -> tuple[int, tuple[str, ...]]:
    """Give a port and its hosts; -1 and a path."""
    if listen.startswith("/"):
        return -1, (listen,)
    return Address(_plain(listen)).port, _hosts(listen.rpartition(":")[0].strip("[]"))


def _noun(port: int) -> str:
    return "path" if port < 0 else "port"


def _hosts(host: str) -> tuple[str, ...]:
    return {"": _LOOPBACK, "*": _ANY, "localhost": _LOOPBACK[:1]}.get(host, (host,))


def _meet(some: tuple[str, ...], others: tuple[str, ...]) -> bool:
    """They have an address in common; 0.0.0.0 has all of IPv4, and :: all there are."""
    return any(one == other or _has(one, other) or _has(other, one) for one in some for other in others)


def _has(one: str, other: str) -> bool:
    return one == "::" or (one == _ANY[0] and ":" not in other)
