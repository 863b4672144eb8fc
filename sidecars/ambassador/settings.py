"""What an operator sets of ambassador."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal, NamedTuple, TypeVar

from msgspec.structs import force_setattr, replace

from sidecars.ambassador import checking
from sidecars.ambassador.http.settings import Http
from sidecars.core.settings import LIFE, READY, Address, Admin, Bytes, Common, Help, Part, Seconds, Secret

PROG = "ambassador"
PREFIX = "AMBASSADOR_"

CARRY = "What to carry"
TWEMPROXY = "In the place of twemproxy (these variables are read with REDIS_SERVERS only)"

Balance = Literal["round-robin", "least-connections", "source-hash", "random-two"]
Hash = Literal[
    "one_at_a_time", "md5", "crc16", "crc32", "crc32a", "fnv1_64", "fnv1a_64", "fnv1_32", "fnv1a_32", "hsieh",
    "murmur", "jenkins",
]  # fmt: skip
ProxyProtocol = Literal["v1", "v2"]


class ClientTls(Part, frozen=True):
    """TLS towards an upstream."""

    ca: Annotated[str | None, Help("What to trust; the system's authorities without it.", metavar="PATH", none="")] = (
        None
    )
    cert: Annotated[str | None, Help("Our certificate, for mutual TLS.", metavar="PATH", none="")] = None
    cert_key: Annotated[str | None, Help("Its key; may stand in the same file.", metavar="PATH", none="")] = None
    server_name: Annotated[
        str | None, Help("The name to ask for and to check; off: none.", none="", default="the upstream's host")
    ] = None
    names: Annotated[
        tuple[str, ...], Help("Names of which the certificate must have one; spiffe:// URIs too.", metavar="NAME")
    ] = ()
    verify: Annotated[bool, Help("Check the certificate.")] = True
    alpn: Annotated[
        tuple[str, ...], Help("The protocols to offer, by ALPN.", default="http/1.1 in HTTP mode, else none")
    ] = ()
    starttls: Annotated[
        Literal["postgres"] | None,
        Help("Ask for TLS in the upstream's own protocol first, as PostgreSQL wants it.", none=""),
    ] = None

    def __post_init__(self) -> None:
        """Refuse what only half makes sense; ValueError."""
        checking.client_tls(self)


class ServerTls(Part, frozen=True):
    """TLS towards the clients of a listener."""

    cert: Annotated[str, Help("The certificate, with its chain.", metavar="PATH")]
    cert_key: Annotated[str | None, Help("Its key; may stand in the same file.", metavar="PATH", none="")] = None
    client_ca: Annotated[
        str | None, Help("Ask clients for a certificate of this authority.", metavar="PATH", none="")
    ] = None
    names: Annotated[tuple[str, ...], Help("Names of which a client's certificate must have one.", metavar="NAME")] = ()
    alpn: Annotated[
        tuple[str, ...],
        Help("The protocols that are understood, by ALPN.", default="http/1.1 in HTTP mode, else none"),
    ] = ()

    def __post_init__(self) -> None:
        """Refuse what only half makes sense; ValueError."""
        checking.server_tls(self)


class TcpCheck(Part, frozen=True):
    """Connect; then send and expect, where that is said."""

    send: Annotated[str | None, Help("What to send; \\r \\n \\xFF are understood.", none="")] = None
    expect: Annotated[str | None, Help("What the answer must begin with or contain.", none="")] = None

    def __post_init__(self) -> None:
        """Refuse an escape that is none; ValueError."""
        checking.tcp_check(self)


class HttpCheck(Part, frozen=True):
    """Ask a path by HTTP."""

    path: Annotated[str, Help("The path.")] = "/"
    status: Annotated[tuple[int, ...], Help("The statuses that are well; 2xx without it.")] = ()
    host: Annotated[str | None, Help("The Host header.", none="", default="the upstream's")] = None

    def __post_init__(self) -> None:
        """Refuse what no server can be asked; ValueError."""
        checking.http_check(self)


class RedisCheck(Part, frozen=True):
    """PING by the Redis protocol, logged in where the upstream wants it."""


class Check(Part, frozen=True):
    """How upstreams are asked whether they are well."""

    tcp: Annotated[TcpCheck | None, Help("Connect.", none="")] = None
    http: Annotated[HttpCheck | None, Help("Ask by HTTP.", none="")] = None
    redis: Annotated[RedisCheck | None, Help("PING.", none="")] = None
    interval: Annotated[Seconds, Help("How often.")] = Seconds(5)
    timeout: Annotated[Seconds, Help("How long an answer may take.")] = Seconds(2)
    rise: Annotated[int, Help("So many successes make it up.")] = 1
    fall: Annotated[int, Help("So many failures make it down.")] = 3

    def __post_init__(self) -> None:
        """Refuse two kinds, none, and numbers out of range; ValueError."""
        checking.check(self)


class Eject(Part, frozen=True):
    """When an upstream that fails its connections is left out, and for how long."""

    failures: Annotated[int, Help("So many failures one after another; 0: never.")] = 3
    time: Annotated[Seconds, Help("How long at first; doubled each time, with jitter.")] = Seconds(5)
    max_time: Annotated[Seconds, Help("How long at most.")] = Seconds(60)
    max_share: Annotated[int, Help("So many percent of the upstreams at most; one may always go.")] = 50

    def __post_init__(self) -> None:
        """Refuse numbers out of range; ValueError."""
        checking.eject(self)


class Redis(Part, frozen=True):
    """Redis mode: keys are sharded over the upstreams as twemproxy shards them."""

    hash: Annotated[Hash, Help("How a key becomes a number.")] = "fnv1a_64"
    distribution: Annotated[Literal["ketama", "modula", "random"], Help("How a number becomes a shard.")] = "ketama"
    hash_tag: Annotated[str | None, Help("Two characters, as {}: hash only what stands between them.", none="")] = None
    timeout: Annotated[Seconds | None, Help("How long an answer may take; off: for ever.")] = Seconds(2)
    connections: Annotated[int, Help("Connections to each shard, for each process and protocol version.")] = 1
    preconnect: Annotated[bool, Help("Connect to the shards at the start.")] = False
    database: Annotated[int, Help("The database of the shards; clients see it as 0.")] = 0
    on_failure: Annotated[
        Literal["reroute", "fail"],
        Help("What becomes of a failed shard's keys: the others get them, or an error is answered."),
    ] = "reroute"
    user: Annotated[str | None, Help("The ACL user at the shards.", none="")] = None
    password: Annotated[Secret | None, Help("The password at the shards.")] = None
    client_user: Annotated[str | None, Help("The user clients must name.", none="")] = None
    client_password: Annotated[Secret | None, Help("The password clients must give.")] = None
    max_request: Annotated[Bytes, Help("The largest command taken.")] = Bytes(512 * 1024 * 1024)

    def __post_init__(self) -> None:
        """Refuse numbers out of range, and a user without a password; ValueError."""
        checking.redis(self)


class Upstream(Part, frozen=True):
    """Where connections go."""

    address: Annotated[
        str, Help("HOST:PORT, each address of the name; srv://NAME, each of its targets; or the path of a unix socket.")
    ]
    weight: Annotated[int, Help("Its share, beside the others' weights.")] = 1
    name: Annotated[str | None, Help("Its name: in metrics, and on the hash ring.", none="", default="its address")] = (
        None
    )
    path: Annotated[
        str | None, Help("In HTTP mode: what each path begins with there, before the client's: /v1.", none="")
    ] = None
    tls: Annotated[ClientTls | None, Help("Speak TLS to it.", none="")] = None
    proxy_protocol: Annotated[ProxyProtocol | None, Help("Say whom we stand for, by the PROXY protocol.")] = None

    def __post_init__(self) -> None:
        """Refuse an address that is none, and a weight of nothing; ValueError."""
        checking.upstream(self)
        force_setattr(self, "address", self.address.removeprefix("unix://"))


class Listener(Part, frozen=True):
    """One port of ours, and where its connections go."""

    listen: Annotated[str, Help(":PORT on loopback, IP:PORT, *:PORT everywhere, or the path of a unix socket.")]
    upstreams: Annotated[tuple[Upstream, ...], Help("Where its connections go.")]
    redis: Annotated[
        Redis | None, Help("Shard Redis commands over the upstreams; else bytes are passed on.", none="")
    ] = None
    http: Annotated[Http | None, Help("Serve HTTP: check, complete, pass on and retry requests.", none="")] = None
    balance: Annotated[Balance, Help("Which upstream a connection goes to.")] = "round-robin"
    connect_timeout: Annotated[Seconds, Help("How long an upstream may take to accept.")] = Seconds(5)
    retries: Annotated[int, Help("How many other upstreams are tried when one does not accept.")] = 2
    idle_timeout: Annotated[Seconds | None, Help("How long a connection may pass nothing.")] = Seconds(3600)
    max_age: Annotated[Seconds | None, Help("How old a connection may become.")] = None
    max_connections: Annotated[int | None, Help("How many connections at once; more wait.")] = None
    queue: Annotated[int, Help("How many may wait; more are closed.")] = 1024
    queue_timeout: Annotated[Seconds, Help("How long one may wait.")] = Seconds(5)
    upstream_connections: Annotated[int | None, Help("How many connections to one address at once.")] = None
    max_pending: Annotated[
        int | None, Help("The circuit breaker: how many connections to upstreams may be under way at once.")
    ] = 1024
    rate: Annotated[float | None, Help("How many new connections a second; more wait.")] = None
    burst: Annotated[int, Help("How many of them at once.")] = 10
    allow: Annotated[tuple[str, ...], Help("Who may connect: addresses and networks; all without it.", "", "CIDR")] = ()
    tls: Annotated[ServerTls | None, Help("Speak TLS to clients.", none="")] = None
    accept_proxy: Annotated[bool, Help("Clients begin with the PROXY protocol, v1 or v2.")] = False
    check: Annotated[Check | None, Help("Ask the upstreams whether they are well.", none="")] = None
    eject: Annotated[Eject, Help("Leave out what fails.")] = Eject()
    close_removed: Annotated[
        bool, Help("Close connections to an address that its name does not have any more, or that is down.")
    ] = True
    mode: Annotated[str, Help("The mode of a unix socket, in octal.")] = "0660"

    def __post_init__(self) -> None:
        """Refuse what cannot be listened on, or does not go together; ValueError."""
        checking.listener(self)
        force_setattr(self, "listen", self.listen.removeprefix("unix://"))
        if self.http is not None:
            force_setattr(self, "tls", self.tls and _speaking(self.tls))
        if self.http is not None and self.redis is None:
            upstreams = [replace(each, tls=each.tls and _speaking(each.tls)) for each in self.upstreams]
            force_setattr(self, "upstreams", tuple(upstreams))

    @property
    def id(self) -> str:
        """What tells it from the others, also over a reload."""
        return self.listen


Tls = TypeVar("Tls", ClientTls, ServerTls)


def _speaking(tls: Tls) -> Tls:
    """Name HTTP/1.1 by ALPN: some servers speak HTTP/2 with whoever names nothing, and some with nobody at all."""
    return tls if tls.alpn else replace(tls, alpn=("http/1.1",))


class Settings(Common, frozen=True, kw_only=True, dict=True):
    """Carry the application's connections to the world: TCP to several upstreams, HTTP for it, and Redis, sharded.

    :PORT listens on loopback. See docs/ambassador.md for --config, which has all that a listener can be told.

        ambassador :5432=tcp://db-0:5432,db-1:5432
        ambassador ':6379=redis://a:6379,b:6379?hash_tag={}'
        ambassador ':8080=https://api.example/v1?credential-bearer-token-file=/secrets/token'
        REDIS_SERVERS=a:6379:1,b:6379:1 ambassador
        ambassador healthcheck [livez|readyz|startupz|healthz]

    """

    routes: Annotated[
        tuple[str, ...],
        Help(
            "Where to listen, and where connections go; the variable's are separated by spaces and newlines.",
            CARRY,
            "LISTEN=UPSTREAMS",
            positional=True,
            words=True,
        ),
    ] = ()
    listeners: Annotated[
        tuple[Listener, ...], Help("Listeners with all their settings, instead of LISTEN=UPSTREAMS.", CARRY)
    ] = ()
    workers: Annotated[int, Help("Processes that carry connections.", CARRY)] = 1
    access_log: Annotated[
        str | None,
        Help("Where to write a JSON line for each connection or HTTP request: stdout, or a file.", CARRY, "PATH"),
    ] = None
    nameserver: Annotated[
        tuple[Address, ...],
        Help("Ask these name servers.", CARRY, none="", default="those of /etc/resolv.conf"),
    ] = ()
    redis_user: Annotated[
        str | None, Help("The ACL user at the shards, for listeners that name none themselves.", CARRY, none="")
    ] = None
    redis_password: Annotated[
        Secret | None, Help("The password at the shards, for listeners that have none themselves.", CARRY)
    ] = None
    redis_client_password: Annotated[
        Secret | None, Help("The password Redis clients must give, for listeners that have none themselves.", CARRY)
    ] = None
    allow_public: Annotated[
        bool,
        Help("Let listeners that are reached from other machines complete requests with credentials of ours.", CARRY),
    ] = False
    drain_close_listeners: Annotated[
        bool, Help("Take no connection once the drain has begun; else they are taken until all is idle.", LIFE)
    ] = False

    nutcracker_config: Annotated[
        str | None, Help("A configuration file of twemproxy, which it calls nutcracker.", TWEMPROXY, "PATH", none="")
    ] = None
    stats: Annotated[
        str | None,
        Help(
            "Where twemproxy's counters are served, as JSON; or off.",
            TWEMPROXY,
            "HOST:PORT",
            none="",
            default="0.0.0.0:22222 in the place of twemproxy, else off",
        ),
    ] = None
    redis_servers: Annotated[
        str | None,
        Help("HOST:PORT:WEIGHT of each shard, by commas or spaces.", TWEMPROXY, none="", variable="REDIS_SERVERS"),
    ] = None
    listen_port: Annotated[
        str | None,
        Help("Where to listen, on all interfaces.", TWEMPROXY, none="", default="6380", variable="LISTEN_PORT"),
    ] = None
    hash: Annotated[
        str | None,
        Help("How a key becomes a number.", TWEMPROXY, none="", default="fnv1a_64", variable="HASH"),
    ] = None
    distribution: Annotated[
        str | None,
        Help("How a number becomes a shard.", TWEMPROXY, none="", default="ketama", variable="DISTRIBUTION"),
    ] = None
    timeout: Annotated[
        str | None,
        Help("Milliseconds an answer may take; 0: for ever.", TWEMPROXY, none="", default="2000", variable="TIMEOUT"),
    ] = None
    auto_eject_hosts: Annotated[
        str | None,
        Help("Leave a shard out that fails.", TWEMPROXY, none="", default="true", variable="AUTO_EJECT_HOSTS"),
    ] = None
    server_failure_limit: Annotated[
        str | None,
        Help("After so many failures.", TWEMPROXY, none="", default="1", variable="SERVER_FAILURE_LIMIT"),
    ] = None
    server_retry_timeout: Annotated[
        str | None,
        Help("For so many milliseconds.", TWEMPROXY, none="", default="5000", variable="SERVER_RETRY_TIMEOUT"),
    ] = None
    server_connections: Annotated[
        str | None,
        Help("Connections to each shard.", TWEMPROXY, none="", default="40", variable="SERVER_CONNECTIONS"),
    ] = None
    preconnect: Annotated[
        str | None,
        Help("Connect to the shards at the start.", TWEMPROXY, none="", default="true", variable="PRECONNECT"),
    ] = None

    admin: Admin = Address(":9105")
    state_dir: Annotated[str | None, Help("Not needed: nothing outlives a restart.", LIFE, "DIR", none="")] = "off"
    ready_when: Annotated[Literal["started", "upstream"], READY] = "started"

    def __post_init__(self) -> None:
        """Check what no single setting can say; WrongSettings. What is only to be warned of goes to `provenance`."""
        checking.settings(self, self._found.listeners)
        known = self.provenance
        force_setattr(self, "provenance", replace(known, warnings=(*known.warnings, *self._found.notices)))

    @functools.cached_property
    def _found(self) -> Found:
        from sidecars.ambassador.sources import find  # it makes what is declared here, and so imports it

        found = find(self)
        return found._replace(listeners=tuple(map(self._with_passwords, found.listeners)))

    def _with_passwords(self, listener: Listener) -> Listener:
        """Complete a Redis listener by what is said for all: a route or a variable is no place for a password."""
        redis = listener.redis
        if redis is None:
            return listener
        completed = replace(
            redis,
            user=redis.user or self.redis_user,
            password=redis.password or self.redis_password,
            client_password=redis.client_password or self.redis_client_password,
        )
        return replace(listener, redis=completed)

    def every_listener(self) -> tuple[Listener, ...]:
        """Give the listeners, whatever they were written as; files that say them were read when this was made."""
        return self._found.listeners

    @property
    def pools(self) -> Mapping[str, str]:
        """The names of twemproxy's pools, by the id of their listener; without twemproxy's words, there are none."""
        return self._found.pools

    @property
    def stats_address(self) -> Address | None:
        """Where twemproxy's counters are served."""
        if self.stats is None:
            return Address("0.0.0.0:22222") if self.pools else None
        return None if self.stats == "off" else Address(self.stats)

    @property
    def files(self) -> tuple[str, ...]:
        """The files that say the listeners: when one changes, the settings are to be read again."""
        config = self.provenance.config
        return (*([config] if config else []), *self._found.files)


class Found(NamedTuple):
    """What an operator's words come to: the listeners, and where they were found.

    pools    as Settings.pools
    files    those of Settings.files, beside that of --config
    notices  what is only to be warned of
    """

    listeners: tuple[Listener, ...]
    pools: Mapping[str, str] = MappingProxyType({})
    files: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
