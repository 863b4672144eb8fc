"""fluentd's command line in our words."""

from __future__ import annotations

import shlex

from sidecars.core.errors import WrongSettings

# Flags of fluentd that take a value, and those that take none: what each is here.
_WITH_VALUE = {"-c": "--fluentd-config", "--config": "--fluentd-config", "-p": None, "--plugin": None, "-o": None,
               "--log": None, "-r": None, "-I": None}  # fmt: skip
_ALONE: dict[str, tuple[str, ...]] = {
    "-v": ("--log-level", "debug"), "--verbose": ("--log-level", "debug"), "-vv": ("--log-level", "debug"),
    "-q": ("--log-level", "warning"), "--quiet": ("--log-level", "warning"), "-qq": ("--log-level", "error"),
    "--dry-run": ("--check-config",), "--no-supervisor": (), "--under-supervisor": (),
}  # fmt: skip


def translated(words: list[str], variable: str) -> list[str]:
    """Give a command line with `-c FILE` in our words, after those of fluentd's flags in the variable FLUENTD_ARGS.

    translated(["--check"], "-c /fluentd/etc/fluent.conf -v")
        -> ["--fluentd-config=/fluentd/etc/fluent.conf", "--log-level=debug", "--check"]

    Raises WrongSettings for a flag in the variable that fluentd does not have, or that has no meaning here.
    """
    ours: list[str] = []
    try:
        given = shlex.split(variable)
    except ValueError as error:
        raise WrongSettings(f"FLUENTD_ARGS is {variable!r}: {error}; close the quotes") from error
    while given:
        ours += _translate(given)
    rest = list(words)
    while rest:
        ours += [f"--fluentd-config={_value(rest)}"] if rest[0] == "-c" else [rest.pop(0)]
    return ours


def _translate(given: list[str]) -> list[str]:
    if given[0] in _ALONE:
        meaning = _ALONE[given.pop(0)]
        return ["=".join(meaning)] if meaning else []
    if given[0].startswith("--config="):
        return [f"--fluentd-config={given.pop(0).partition('=')[2]}"]
    if given[0] not in _WITH_VALUE:
        raise WrongSettings(f"FLUENTD_ARGS holds {given[0]!r}, which s3-shipper does not know; leave it out")
    ours, name = _WITH_VALUE[given[0]], given[0]
    value = _value(given)
    if ours is None:
        raise WrongSettings(f"FLUENTD_ARGS holds {name} {value!r}, which has no meaning here; leave it out")
    return [f"{ours}={value}"]


def _value(words: list[str]) -> str:
    flag = words.pop(0)
    if not words:
        raise WrongSettings(f"{flag} has no value: give a file, as {flag} /fluentd/etc/fluent.conf")
    return words.pop(0)
