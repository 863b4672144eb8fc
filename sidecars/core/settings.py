"""What an operator sets, declared once: flags, variables, config file, help, reference page and JSON Schema."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NoReturn, TypeVar

import msgspec

from sidecars import __version__
from sidecars.core.commandline import CommandLine, parse
from sidecars.core.configfile import ConfigFile, open_config
from sidecars.core.declaration import Help, Part, Provenance, Setting, declared
from sidecars.core.errors import WrongSettings, redacted
from sidecars.core.units import Address, Bytes, Seconds, Secret
from sidecars.core.values import Place, build, fill, nearest, read, secret_file

__all__ = [
    "DOOR",
    "READY",
    "Address",
    "Admin",
    "Bytes",
    "Common",
    "Help",
    "Part",
    "Provenance",
    "Seconds",
    "Secret",
    "load",
    "shown",
]

T = TypeVar("T", bound=msgspec.Struct)

DOOR, LIFE, LOGS = "Probes, metrics and status page", "Start and end", "This program's own log"
POD = "The pod (set these variables by the downward API)"

# What a sidecar with another default writes instead of the whole declaration: `admin: Admin = Address(":9101")`.
Admin = Annotated[Address | None, Help("Where probes, metrics and the status page are served.", DOOR)]
READY = Help("What /readyz waits for. A sidecar that is not ready takes its whole pod out of its Services.", DOOR)


class Common(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename=lambda n: n.rstrip("_")):
    """What every sidecar lets an operator set."""

    admin: Admin = None
    admin_pages: Annotated[
        Literal["loopback", "all", "off"],
        Help("Who may open the status page: this pod and port-forward only, everyone, or nobody.", DOOR),
    ] = "loopback"
    admin_post: Annotated[
        bool, Help("Take commands such as /quitquitquit by POST, from this pod and port-forward.", DOOR)
    ] = False
    ready_when: Annotated[Literal["started", "delivering", "fresh", "upstream"], READY] = "started"
    grace: Annotated[Seconds, Help("How long the drain after SIGTERM may take.", LIFE)] = Seconds(25)
    exit_on_file: Annotated[
        str | None, Help("Drain and exit 0 once this file exists: for Jobs without native sidecars.", LIFE, "PATH")
    ] = None
    state_dir: Annotated[
        str | None,
        Help(
            "Where to keep what must outlive a restart; off: in memory only.",
            LIFE,
            "DIR",
            none="",
            default="/state if it is a writable directory, else off",
        ),
    ] = None
    termination_log: Annotated[str, Help("Where to leave the reason of a failure for Kubernetes.", LIFE, "PATH")] = (
        "/dev/termination-log"
    )
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Help("The least severe events to log.", LOGS)
    ] = "info"
    log_format: Annotated[
        Literal["json", "text"] | None,
        Help("One JSON object per event, or text for people.", LOGS, none="", default="json, or text on a terminal"),
    ] = None
    pod_name: Annotated[str | None, Help("Name of the pod, to label what is sent.", POD, variable="POD_NAME")] = None
    pod_namespace: Annotated[str | None, Help("Namespace of the pod.", POD, variable="POD_NAMESPACE")] = None
    pod_ip: Annotated[str | None, Help("Address of the pod.", POD, variable="POD_IP")] = None
    node_name: Annotated[str | None, Help("Name of the node.", POD, variable="NODE_NAME")] = None
    provenance: Provenance = Provenance()


def load(
    kind: type[T],
    *,
    prog: str,
    prefix: str,
    argv: Sequence[str] | None = None,
    environ: Mapping[str, str] | None = None,
    passwords: bool = False,
) -> T:
    """Give the settings that flags, variables, the config file and the defaults make, the first of them that speaks.

    --help, --version and --check-config print their answer and exit 0. Without argv and environ, the process's own are
    read. With `passwords` a URL on the command line may hold one. What stops nothing is in `provenance.warnings` of the
    settings, to be logged. Raises WrongSettings.
    """
    argv, environ = sys.argv[1:] if argv is None else argv, os.environ if environ is None else environ
    settings = declared(kind, prefix)
    line = parse(argv, settings, passwords=passwords)
    answer(line, kind, prog, prefix)
    path = line.config or environ.get(f"{prefix}CONFIG")
    config = open_config(path, environ) if path else ConfigFile()
    values = gather(settings, line, config, environ)
    provenance = Provenance(strangers(prefix, settings, environ), config.written, config.expanded, config.path)
    if "provenance" in kind.__struct_fields__:
        values["provenance"] = provenance
    try:
        loaded: T = build(kind, values, Place(""))
    except WrongSettings as error:
        raise WrongSettings(provenance.conceal(str(error))) from error
    if "check" in line.asked:
        print(*provenance.warnings, sep="\n", end="\n" * bool(provenance.warnings), file=sys.stderr)
        leave("settings are valid")
    return loaded


def answer(line: CommandLine, kind: type[msgspec.Struct], prog: str, prefix: str) -> None:
    """Answer a question that needs no valid settings, and exit."""
    if "help" in line.asked:
        from sidecars.core.reference import usage  # only who asks pays for it

        leave(usage(kind, prog, prefix))
    if "version" in line.asked:
        leave(f"{prog} {__version__}")


def leave(text: str) -> NoReturn:
    """Answer on stdout, and exit 0."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # A reader such as head has seen enough; the interpreter would complain of it when it flushes at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(0)


def gather(
    settings: Sequence[Setting], line: CommandLine, config: ConfigFile, environ: Mapping[str, str]
) -> dict[str, Any]:
    """Read the values of the settings, each from the first source that has one; the defaults are left out."""
    values = fill(settings, config.values, Place("", config.path, config.written))
    for setting in settings:
        values |= from_variables(setting, environ)
        values |= from_flag(setting, line.texts.get(setting.name))
        if setting.required and setting.name not in values:
            raise WrongSettings(missing(setting))
    return values


def from_variables(setting: Setting, environ: Mapping[str, str]) -> dict[str, Any]:
    """Read a setting's variable; an empty one counts as not set, for compose files and charts leave them so."""
    given = [name for name in setting.variables if environ.get(name)]
    if not given:
        return {}
    if len(given) > 1:
        raise WrongSettings(f"{' and '.join(given)} are both set; keep one")
    name, place = given[0], Place(given[0])
    if setting.secret:
        return {setting.name: Secret(environ[name]) if name == setting.variable else secret_file(environ[name], place)}
    value = elements(environ[name], place, words=setting.help.words) if setting.many else environ[name]
    return {setting.name: read(setting.kind, value, place, setting.help.none)}


def elements(text: str, place: Place, *, words: bool = False) -> object:
    """Split a list in a variable at newlines and commas, or its words, or read it as JSON if it begins with `[`."""
    if words and not re.match(r'\s*\[\s*"', text):
        return text.split()  # such as [::1]:6379=redis://a:6379,b:6379
    if not text.lstrip().startswith("["):
        return [word.strip() for line in text.splitlines() for word in line.split(",") if word.strip()]
    import json  # a list that is not JSON does without

    try:
        return json.loads(text)
    except ValueError as error:
        raise WrongSettings(f'{place} begins with [ but is not JSON: {error}; write ["a", "b"]') from error


def from_flag(setting: Setting, texts: list[str] | None) -> dict[str, Any]:
    """Read what a setting's flag gave, or the arguments; each time is one element of a list, which may hold commas."""
    if not texts:
        return {}
    place = Place(setting.flag or setting.help.metavar)
    if setting.secret:
        return {setting.name: secret_file(texts[-1], place)}
    return {setting.name: read(setting.kind, texts if setting.many else texts[-1], place, setting.help.none)}


def missing(setting: Setting) -> str:
    """Say how to give what is required."""
    if setting.help.positional:
        return f"no {setting.help.metavar} is given: name one as an argument, or set {setting.variable}"
    if setting.flag:
        return f"{setting.flag} is not set: give it, or set {setting.variable}"
    return f"{setting.variable or setting.key} is not set: " + ("set it" if setting.variable else "give it by --config")


def strangers(prefix: str, settings: Sequence[Setting], environ: Mapping[str, str]) -> tuple[str, ...]:
    """Complain of variables with the program's prefix that no setting has; their values are not repeated."""
    known = {f"{prefix}CONFIG", *(name for setting in settings for name in setting.variables)}
    return tuple(
        f"the variable {name} is unknown; {nearest(name, known)}"
        for name, value in sorted(environ.items())
        if name.startswith(prefix) and name not in known and not service_link(name.removeprefix(prefix), value)
    )


def service_link(name: str, value: str) -> bool:
    """Kubernetes made the variable for a Service whose name begins as the program's prefix does.

    The Service tailer makes TAILER_PORT and TAILER_SERVICE_HOST, the Service tailer-web TAILER_WEB_PORT.
    """
    if re.match(r"(PORT|SERVICE)(_|$)", name) or re.search(r"_SERVICE_(HOST|PORT)(_|$)|_PORT_[0-9]+_[A-Z]+", name):
        return True
    return name.endswith("_PORT") and "://" in value


def shown(settings: msgspec.Struct) -> dict[str, object]:
    """Give settings as people may see them: no secret, no value of a ${VAR}, no userinfo of a URL."""
    return mapping(settings, "", getattr(settings, "provenance", Provenance()).written)


def mapping(part: msgspec.Struct, place: str, written: Mapping[str, str]) -> dict[str, object]:
    """Show what stands under the declared keys, and nothing else."""
    return {
        setting.key: visible(getattr(part, setting.name), f"{place}{setting.key}", written)
        for setting in declared(type(part))
    }


def visible(value: object, place: str, written: Mapping[str, str]) -> object:
    """Show one value; where ${VAR} was put in, the text as the file has it."""
    if isinstance(value, Secret):
        return "***"
    if place in written:
        return redacted(written[place])
    if isinstance(value, (tuple, list)):
        return [visible(item, f"{place}[{index}]", written) for index, item in enumerate(value)]
    if isinstance(value, msgspec.Struct):
        return mapping(value, f"{place}.", written)
    # Units are numbers too, and are shown as they are written: 1m, 64KiB.
    return value if value is None or type(value) in (bool, int, float) else redacted(str(value))
