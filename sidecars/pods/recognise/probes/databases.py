"""Looks at databases and brokers, by the clients that come with them."""

from __future__ import annotations

from collections.abc import Callable

from sidecars.pods.recognise.options import Options, parted
from sidecars.pods.recognise.probes.ports import target
from sidecars.pods.recognise.probes.probe import Probe
from sidecars.pods.recognise.scope import Scope, references
from sidecars.pods.statements import Command, Output

_SOCKET = "it asks by a socket of this container, or a host that is not in the manifest"
_ASKS = "it logs in, or asks a question: give user=U and password_file=FILE for a login that has to succeed"


def _pg_isready(command: Command, scope: Scope) -> Probe | None:
    options = parted(scope.texts(command)[1:], "hpUdt", ("host", "port", "username", "dbname", "timeout"))
    known = options.only("h p U d t q host port username dbname timeout quiet")
    return _postgres(options, scope, "" if known and not options.operands else "its options")


def _psql(command: Command, scope: Scope) -> Probe | None:
    options = parted(scope.texts(command)[1:], "hpUdcvFfP", ("host", "port", "username", "dbname", "command"))
    asks = (options.value("c", "command") or "").strip().lower().rstrip(";")
    look = asks in ("select 1", "\\q", "\\l", "\\conninfo") or options.has("l", "list")
    return _postgres(options, scope, _ASKS) if look else None


def _postgres(options: Options, scope: Scope, doubt: str) -> Probe:
    host = options.value("h", "host") or scope.environment("PGHOST")
    port = options.value("p", "port") or scope.environment("PGPORT") or "5432"
    return Probe(
        pattern=5,
        found="a wait for PostgreSQL",
        wrong="an image of hundreds of megabytes for one question, and nothing ends the wait",
        targets=(target("postgres", host or "127.0.0.1", port),),
        doubt=doubt or ("" if host and not host.startswith("/") else _SOCKET),
        notes=("postgres://HOST/DATABASE waits for that database too",),
    )


def _mysqladmin(command: Command, scope: Scope) -> Probe | None:
    options = _mysql_options(command, scope)
    if not {"ping", "status"} & set(options.operands):
        return None
    # ping succeeds when access is denied, too: no login is needed for the same.
    return _mysql_probe(options, "" if "ping" in options.operands else _ASKS)


def _mysql(command: Command, scope: Scope) -> Probe | None:
    options = _mysql_options(command, scope)
    asks = (options.value("e", "execute") or "").strip().lower().rstrip(";")
    return _mysql_probe(options, _ASKS) if asks in ("select 1", "show databases", "show tables", "status") else None


def _mysql_options(command: Command, scope: Scope) -> Options:
    long = ("host", "port", "user", "execute", "protocol", "socket", "connect-timeout", "database", "defaults-file")
    return parted(scope.texts(command)[1:], "hPueSD", long, attached="p")


def _mysql_probe(options: Options, doubt: str) -> Probe:
    host = options.value("h", "host")
    return Probe(
        pattern=6,
        found="a wait for MySQL",
        wrong="ping succeeds when access is denied, a password on the command line is no secret, and nothing ends it",
        targets=(target("mysql", host or "127.0.0.1", options.value("P", "port") or "3306"),),
        doubt=doubt or ("" if host and host != "localhost" else _SOCKET),
    )


def _redis(command: Command, scope: Scope) -> Probe | None:
    options = parted(scope.texts(command)[1:], "hpanutr", ("user", "pass", "cacert", "sni", "cert", "key"))
    if [word.lower() for word in options.operands] not in (["ping"], ["info"]):
        return None
    host, port = options.value("h") or "127.0.0.1", options.value("p") or "6379"
    address = options.value("u")
    known = options.only("h p a n t user pass tls cacert insecure no-auth-warning raw")
    scheme = "rediss" if options.has("tls") else "redis"
    text = target(scheme, host, port)
    extra = [word for word in (_ca(options), "insecure" if options.has("insecure") else "") if word]
    return Probe(
        pattern=7,
        found="a wait for Redis",
        wrong="LOADING and NOAUTH are answers with exit code 0 as well, and nothing ends the wait",
        targets=(address or text + ("?" if extra else "") + "&".join(extra),),
        doubt="" if known and not address else "its options",
    )


def _ca(options: Options) -> str:
    return f"ca={options.value('cacert')}" if options.value("cacert") else ""


def tested(command: Command, scope: Scope) -> Probe | None:
    """Read `[ "$(redis-cli -h cache ping)" = PONG ]`."""
    match command.words[1:]:
        case [asked, operator, wanted, *_] if wanted.literal == "PONG" and len(asked.parts) == 1:
            found = _inside(asked.parts[0], scope)
            if found and operator.literal in ("!=",):
                return Probe(pattern=7, found=found.found, wrong=found.wrong, targets=(f"not:{found.targets[0]}",))
            return found if operator.literal in ("=", "==") else None
    return None


def _inside(part: object, scope: Scope) -> Probe | None:
    match part:
        case Output([Command() as inner]) if inner.name == "redis-cli":
            return _redis(inner, scope)
    return None


class _Other:
    """A client of which only the port is known that it asks."""

    def __init__(self, what: str, port: str, scheme: str = "tcp", words: str = "") -> None:
        self.what, self.port, self.scheme, self.words = what, port, scheme, words

    def __call__(self, command: Command, scope: Scope) -> Probe | None:
        """Find the host among its options, as well as that goes."""
        long = ("host", "port", "bootstrap-server", "eval", "username", "password", "uri", "timeout", "command-config")
        options = parted(scope.texts(command)[1:], "huepn", long)
        address = options.value("bootstrap-server") or options.value("host", "h", "n") or (options.operands or [""])[0]
        host, _, port = address.partition(":")
        if not host or "/" in host or host.startswith("-"):
            return None
        port = port if port.isdecimal() or references(port) else self.port
        return Probe(
            pattern=2,
            found=f"a wait for {self.what}",
            wrong="a large image for one question, and nothing ends the wait",
            targets=(target(self.scheme, host, port),),
            doubt="pod-init asks the port, and not what the client asks",
            alone=False,
        )


LOOKS: dict[str, Callable[[Command, Scope], Probe | None]] = {
    "pg_isready": _pg_isready,
    "psql": _psql,
    "mysqladmin": _mysqladmin,
    "mariadb-admin": _mysqladmin,
    "mysql": _mysql,
    "mariadb": _mysql,
    "redis-cli": _redis,
    "valkey-cli": _redis,
    "mongo": _Other("MongoDB", "27017"),
    "mongosh": _Other("MongoDB", "27017"),
    "cqlsh": _Other("Cassandra", "9042"),
    "rabbitmq-diagnostics": _Other("RabbitMQ", "5672", "amqp"),
    "rabbitmqctl": _Other("RabbitMQ", "5672", "amqp"),
    "kafka-topics": _Other("Kafka", "9092"),
    "kafka-topics.sh": _Other("Kafka", "9092"),
    "kafka-broker-api-versions.sh": _Other("Kafka", "9092"),
    "kcat": _Other("Kafka", "9092"),
}
