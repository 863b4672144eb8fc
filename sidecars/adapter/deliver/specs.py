"""The outputs that log-adapter can be given, and how an operator says so."""

from __future__ import annotations

import os
from typing import Annotated, Literal, Self, cast

import msgspec
from msgspec.structs import replace

from sidecars.adapter.settings import Settings, To
from sidecars.core.errors import WrongSettings, redacted
from sidecars.core.forward.settings import Forward, read_forward
from sidecars.core.outputs import read_url
from sidecars.core.settings import Address, Help, Part, Seconds

OTLP_PATH = "/v1/logs"
EXPECTED = (
    "stdout, file:///PATH, otlp+http://HOST:4318, gelf+udp://HOST:12201, gelf+tcp://HOST:12201, "
    "forward://HOST:24224?tag=app or off"
)
_OTLP_PORT, _GELF_PORT = 4318, 12201


class Stdout(Part, frozen=True):
    """The standard output."""

    def __str__(self) -> str:
        return "stdout"


class Path(str):
    """A file's absolute path, as a URL has it: %20 is a space."""

    __slots__ = ()
    expected = "file:///PATH"
    metavar = "PATH"

    @classmethod
    def read(cls, text: str) -> Self:
        """Read it; ValueError when it is none."""
        from urllib.parse import unquote  # only who writes to a file pays for it

        path = unquote(text, errors="surrogateescape")
        if not path.startswith("/") or path.endswith("/") or "\0" in path:
            raise ValueError(text)
        return cls(os.path.normpath(path))


class File(Part, frozen=True):
    """A file that records are appended to, which may be rotated."""

    address: Annotated[Path, Help("Its path.")]
    to: Annotated[To | None, Help("The format of what it gets.", none="", default="--to")] = None

    def __str__(self) -> str:
        return f"file-{self.address}"


class Remote(Part, frozen=True):
    """Another program, and how to talk to it."""

    address: Annotated[Address, Help("Where it listens.")]
    tls: Annotated[bool, Help("Speak TLS.")] = False
    ca: Annotated[str | None, Help("The certificates to trust.", metavar="PATH", none="", default="the system's")] = (
        None
    )
    verify: Annotated[bool, Help("Verify its certificate.")] = True
    server_name: Annotated[str | None, Help("The name in its certificate.", none="", default="the host")] = None
    cert: Annotated[str | None, Help("The certificate to show it.", metavar="PATH", none="")] = None
    cert_key: Annotated[str | None, Help("The private key of that certificate.", metavar="PATH", none="")] = None
    compress: Annotated[Literal["gzip", "off"], Help("How to compress what is sent.")] = "gzip"
    connect_timeout: Annotated[Seconds, Help("How long the connection may take, with TLS.")] = Seconds(10)
    ack_timeout: Annotated[Seconds, Help("How long it may take nothing, or answer nothing.")] = Seconds(60)

    def __post_init__(self) -> None:
        """Refuse what only half makes sense."""
        # Also what getaddrinfo would refuse later with a UnicodeError: an empty or a too long label.
        if not self.address.host or not self.address.host.encode("idna"):
            raise ValueError("names no host")
        for name in ("ca", "server_name", "cert", "cert_key"):
            if getattr(self, name) and not self.tls:
                raise ValueError(f"has {name} without TLS; add tls, or leave {name} out")

    @property
    def host(self) -> str:
        """The host to connect to."""
        return self.address.host.strip("[]")

    @property
    def port(self) -> int:
        """The port to connect to."""
        return self.address.port


class Otlp(Remote, frozen=True):
    """A receiver of OTLP over HTTP, in JSON: an OpenTelemetry Collector, or a backend."""

    path: Annotated[str, Help("Where on the server it takes logs.")] = OTLP_PATH
    refused_pause: Annotated[
        Seconds, Help("How long to wait when it refuses what another try is unlikely to help.")
    ] = Seconds(60)

    @property
    def url(self) -> str:
        """Where to send to."""
        return f"http{'s' if self.tls else ''}://{self.address}{self.path}"

    def __str__(self) -> str:
        return f"otlp-{self.address}{'' if self.path == OTLP_PATH else self.path}"


class GelfUdp(Remote, frozen=True):
    """A receiver of GELF over UDP, which confirms nothing."""

    datagram: Annotated[int, Help("The largest datagram in bytes: 64 to 8192.")] = 1420

    def __post_init__(self) -> None:
        """Refuse what only half makes sense."""
        Remote.__post_init__(self)
        if self.tls:
            raise ValueError("has tls, which gelf+udp cannot speak; use gelf+tcp, or leave tls out")
        if not 64 <= self.datagram <= 8192:
            raise ValueError(f"has datagram {self.datagram}, expected 64 to 8192")

    def __str__(self) -> str:
        return f"gelf-udp-{self.address}"


class GelfTcp(Remote, frozen=True):
    """A receiver of GELF over TCP."""

    compress: Annotated[Literal["off"], Help("How to compress what is sent: GELF over TCP cannot.")] = "off"

    def __str__(self) -> str:
        return f"gelf-tcp-{self.address}"


Output = Stdout | File | Otlp | GelfUdp | GelfTcp | Forward


class Spec(msgspec.Struct, frozen=True):
    """One output as it is asked for.

    name    what metrics, health and its checkpoint call it
    output  where it sends
    to      what its encoder makes; None where it takes values
    counts  it is as near as this process's own descriptors: what it reads, others may count
    """

    name: str
    output: Output
    to: To | Literal["otlp", "gelf"] | None
    counts: bool


def read_outputs(settings: Settings) -> tuple[Spec, ...]:
    """Read every --output; none where the only one is `off`. Raises WrongSettings."""
    if not settings.output:
        raise WrongSettings("--output is empty; give stdout, another output, or off")
    if settings.output == ("off",):
        return ()
    specs: list[Spec] = []
    for text in settings.output:
        output = _complete(read_output(text), settings)
        taken = sum(spec.name.startswith(_name(output)) for spec in specs if isinstance(output, Forward))
        name = f"{_name(output)}-{taken}" if taken else _name(output)
        if any(spec.name == name or spec.output == output for spec in specs):
            raise WrongSettings(f"the output {redacted(text.partition('?')[0])} is given twice; leave one out")
        specs.append(Spec(name, output, _encoding(output, settings.to), isinstance(output, (Stdout, File))))
    return tuple(specs)


def read_output(text: str) -> Output:
    """Read one --output.

        stdout
        file:///var/log/out/access.jsonl?to=ecs
        otlp+https://collector.monitoring/v1/logs?ca=/tls/ca.crt
        gelf+udp://graylog:12201?datagram=8192
        gelf+tcp://graylog?tls=true
        forward://fluentd.logging:24224?tag=app

    The options are the fields of the Part, written with `-` or `_`. Raises WrongSettings, which never says an option's
    text that may be a secret.
    """
    url, _, query = text.partition("?")
    scheme, _, rest = url.partition("://")
    if text == "stdout":
        return Stdout()
    if scheme in ("forward", "forward+unix"):
        return read_forward(text)
    if "@" in rest and scheme != "file":
        hint = "give the token by --otlp-token-file" if scheme.startswith("otlp") else "leave it out"
        raise WrongSettings(f"the output {redacted(url)} holds a user; {hint}")
    address, slash, path = rest.partition("/")
    match scheme:
        case "file":
            return read_url(File, url, rest, query)
        case "otlp+http" | "otlp+https":
            options = {"tls": scheme == "otlp+https", "path": slash + path if path else OTLP_PATH}
            return read_url(Otlp, url, _with_port(address, _OTLP_PORT), query, **options)
        case "gelf+udp" | "gelf+tcp" if not path:
            kind = GelfUdp if scheme == "gelf+udp" else GelfTcp
            return cast("GelfUdp | GelfTcp", read_url(kind, url, _with_port(address, _GELF_PORT), query))
    if text == "off":
        raise WrongSettings("the output off is given beside others; leave it out, or them")
    raise WrongSettings(f"the output {redacted(url)!r} is unknown, expected {EXPECTED}")


def _with_port(address: str, port: int) -> str:
    return address if ":" in address.rpartition("]")[2] else f"{address}:{port}"


def _name(output: Output) -> str:
    return f"forward-{output}" if isinstance(output, Forward) else str(output)


def _complete(output: Output, settings: Settings) -> Output:
    """Add what is said elsewhere, and check what needs it."""
    if isinstance(output, File):
        _check_file(output, settings)
    if not isinstance(output, Forward):
        return output
    from sidecars.core.forward.destination import tag_for  # only who forwards pays for it

    # Filled in once, for what a tag asks for may not be known.
    tag_for(output.tag, path="x", pod=settings.pod_name, namespace=settings.pod_namespace)
    return output if output.key else replace(output, key=settings.forward_key)


def _check_file(output: File, settings: Settings) -> None:
    from sidecars.core.follow.find import Patterns  # only who writes to a file pays for it

    if os.path.isdir(output.address):
        raise WrongSettings(f"the output file://{output.address} is a directory; add the name of a file")
    for source in settings.every_source():
        paths = tuple(os.path.abspath(path) for path in source.paths if path != "-")
        exclude = tuple(os.path.abspath(each) if "/" in each else each for each in source.exclude or ())
        if Patterns(paths, exclude).matches(output.address):
            raise WrongSettings(
                f"the output file://{output.address} lies where it would be read as a log; choose another directory"
            )


def _encoding(output: Output, to: To) -> To | Literal["otlp", "gelf"] | None:
    match output:
        case Stdout():
            return to
        case File():
            return output.to or to
        case Otlp():
            return "otlp"
        case GelfUdp() | GelfTcp():
            return "gelf"
    return None
