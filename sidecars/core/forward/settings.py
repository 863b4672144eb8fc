"""Where a forward output sends, and how an operator says so."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from sidecars.core.declaration import Help, Part
from sidecars.core.errors import WrongSettings, redacted
from sidecars.core.outputs import read_url
from sidecars.core.units import Address, Seconds, Secret


class Receiver(str):
    """Where a forward output listens: `host:port`, `host` at the protocol's port, or `unix:///its/socket`."""

    __slots__ = ("host", "port")
    expected: ClassVar[str] = "HOST:PORT, or unix:///PATH"
    metavar: ClassVar[str] = "HOST:PORT"
    PORT: ClassVar[int] = 24224

    host: str
    port: int

    @classmethod
    def read(cls, text: str) -> Self:
        """Read a receiver's address; ValueError when the text is none. The host of a socket is its whole address."""
        if text.startswith("unix:///"):
            self = cls(text)
            self.host, self.port = text, 0
            return self
        address = Address(text if ":" in text.rpartition("]")[2] else f"{text}:{cls.PORT}")
        # Refuse now what getaddrinfo would refuse later with a UnicodeError: an empty or a too long label.
        if not address.host or not address.host.encode("idna"):
            raise ValueError(text)
        self = cls(address)
        self.host, self.port = address.host, address.port
        return self


class Forward(Part, frozen=True):
    """A Fluentd, Fluent Bit or other receiver of the forward protocol, and how to talk to it."""

    address: Annotated[Receiver, Help("Where it listens; the port is 24224 if none is given.")]
    tag: Annotated[str, Help("The tag of what is sent; {pod}, {namespace} and {file} are put in.")] = "log"
    tls: Annotated[bool, Help("Speak TLS.")] = False
    ca: Annotated[str | None, Help("The certificates to trust.", metavar="PATH", none="", default="the system's")] = (
        None
    )
    verify: Annotated[bool, Help("Verify its certificate.")] = True
    server_name: Annotated[str | None, Help("The name in its certificate.", none="", default="the host")] = None
    cert: Annotated[str | None, Help("The certificate to show it.", metavar="PATH", none="")] = None
    cert_key: Annotated[str | None, Help("The private key of that certificate.", metavar="PATH", none="")] = None
    key: Annotated[Secret | None, Help("The shared key.", none="", default="--forward-key-file")] = None
    username: Annotated[str | None, Help("The user, if it asks for one.", none="")] = None
    password: Annotated[Secret | None, Help("The user's password.", none="")] = None
    compress: Annotated[Literal["gzip", "off"], Help("How to compress what is sent.")] = "off"
    keepalive: Annotated[bool, Help("Keep one connection, instead of one per chunk.")] = True
    window: Annotated[
        int, Help("How many chunks of up to 1 MiB, held in memory, may wait for their acknowledgement: 1 to 64.")
    ] = 4
    connect_timeout: Annotated[
        Seconds, Help("How long the connection may take, and TLS, and the handshake, each for itself.")
    ] = Seconds(10)
    ack_timeout: Annotated[Seconds, Help("How long it may take nothing, or acknowledge nothing.")] = Seconds(60)

    def __post_init__(self) -> None:
        """Refuse what only half makes sense."""
        from sidecars.core.forward.destination import check_tag  # only who forwards pays for it

        check_tag(self.tag)
        for name in ("ca", "server_name", "cert", "cert_key"):
            if getattr(self, name) and not self.tls:
                raise ValueError(f"has {name} without TLS; add tls, or leave {name} out")
        if (self.username is None) != (self.password is None):
            raise ValueError("has one of username and password; give both, or none")
        if not 1 <= self.window <= 64:
            raise ValueError(f"has window {self.window}, expected 1 to 64")

    @property
    def host(self) -> str:
        """The host to connect to, or unix:///PATH."""
        return self.address.host

    @property
    def port(self) -> int:
        """The port to connect to."""
        return self.address.port

    def __str__(self) -> str:
        return str(self.address)


def read_forward(text: str) -> Forward:
    """Read a forward output's URL.

        forward://fluentd.logging:24224?tag=app&tls=true&ca=/tls/ca.crt
        forward+unix:///run/fluent.sock?tag=app

    Raises WrongSettings, which never says an option's text that may be a secret.
    """
    url, _, query = text.partition("?")
    scheme, _, address = url.partition("://")
    if "@" in address:
        raise WrongSettings(f"the output {redacted(url)} holds a user; give username= and password_file= after a ?")
    return read_url(Forward, url, f"unix://{address}" if scheme == "forward+unix" else address.rstrip("/"), query)
