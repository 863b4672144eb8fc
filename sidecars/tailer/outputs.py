"""The outputs that log-tailer can be given: stdout, and receivers of the forward protocol."""

from __future__ import annotations

from typing import Annotated, Literal

from sidecars.core.errors import WrongSettings, redacted
from sidecars.core.forward.settings import Forward, read_forward
from sidecars.core.settings import Help, Part

Format = Literal["raw", "json"]
Label = Literal["none", "path", "name"]


class Stdout(Part, frozen=True):
    """The standard output."""

    format: Annotated[Format | None, Help("How lines are written.", none="", default="--format")] = None
    label: Annotated[
        Label | None, Help("How the lines of several files are told apart.", none="", default="--label")
    ] = None

    def __str__(self) -> str:
        return "stdout"


class Output(Part, frozen=True):
    """One output: a mapping with one key, its kind."""

    stdout: Annotated[Stdout | None, Help("Write to the standard output.", none="")] = None
    forward: Annotated[Forward | None, Help("Send by the forward protocol.", none="")] = None

    def __post_init__(self) -> None:
        """Refuse a mapping of none or of two."""
        if (self.stdout is None) == (self.forward is None):
            raise ValueError("needs one key, as in stdout: {} or forward: {address: HOST:PORT}")


def read_output(text: str) -> Stdout | Forward:
    """Read one --output.

        stdout
        forward://fluentd.logging:24224?tag=app&tls=true&ca=/tls/ca.crt
        forward+unix:///run/fluent.sock?tag=app

    The options are the fields of Forward, written with `-` or `_`. Raises WrongSettings, which never says an option's
    text that may be a secret.
    """
    if text == "stdout":
        return Stdout()
    url = text.partition("?")[0]
    if url.partition("://")[0] not in ("forward", "forward+unix"):
        raise WrongSettings(f"the output {redacted(url)!r} is unknown, expected stdout or forward://HOST:PORT?tag=TAG")
    return read_forward(text)
