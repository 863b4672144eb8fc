"""pod-init's way from its command line to its exit code: which subcommand, its settings, its end."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from sidecars.core.errors import SidecarError, WrongSettings
from sidecars.init.signals import Ended, end_at_once, release, take

if TYPE_CHECKING:
    from sidecars.core.ending import Ending

PROG = "pod-init"
PREFIX = "INIT_"
PAYLOAD, DESTINATION = "/payload", "/models"


class Subcommand(NamedTuple):
    """Where a subcommand is, and what it does in a few words.

    Its module has Settings, and run(settings), which raises a SidecarError when it fails. One that `wraps` takes a
    command after `--`, which its run(settings, command) gets to check; the command replaces this process at the end.
    """

    module: str
    line: str
    wraps: bool = False


SUBCOMMANDS = {
    "wait": Subcommand("waiting", "Wait until names, ports, services, files or objects are as wanted.", wraps=True),
    "healthcheck": Subcommand(
        "healthcheck", "Look once at the same targets: exit 0 or 1, for exec probes and compose."
    ),
    "copy": Subcommand("copying", "Copy a directory, completely or not at all; again in no time."),
    "fetch": Subcommand("fetching", "Fetch a file or an archive, checked, and unpack it."),
    "mkdir": Subcommand("mkdir", "Make directories with a mode, without chown."),
    "render": Subcommand("rendering", "Put variables and secrets into templates, as envsubst does, but strictly."),
    "write": Subcommand("writing", "Write a value or a secret to a file."),
    "pause": Subcommand("pausing", "Do nothing until told to end."),
    "quit": Subcommand("quitting", "Ask the other sidecars of the pod to end."),
}


def run(argv: Sequence[str], environ: Mapping[str, str]) -> NoReturn:
    """Run what the command line asks for, and leave with its exit code."""
    words = list(argv)
    if not words and os.path.isdir(PAYLOAD):
        # An image made FROM this one with a /payload is complete as it stands.
        environ = dict(environ)
        words = ["copy", PAYLOAD, environ.pop(f"{PREFIX}DEST", "") or DESTINATION]
    name = words[0] if words else ""
    try:
        _answer(name)
        subcommand = _find(name)
        _run(name, subcommand, words[1:], environ)
    except SidecarError as error:
        _refuse(f"{PROG} {name}" if name in SUBCOMMANDS else PROG, error, words[1:], environ)


def _answer(name: str) -> None:
    """Answer a question that is put to no subcommand, and leave."""
    from sidecars import __version__

    if name in ("--help", "-h", "help"):
        from sidecars.core.settings import leave as answered

        answered(usage())
    if name == "--version":
        print(f"{PROG} {__version__}", flush=True)
        raise SystemExit(0)
    if not name:
        _complain(usage())
        raise SystemExit(2)


def usage() -> str:
    """List the subcommands."""
    width = max(map(len, SUBCOMMANDS))
    lines = [f"  {name:<{width}}  {subcommand.line}" for name, subcommand in SUBCOMMANDS.items()]
    head = [f"usage: {PROG} SUBCOMMAND [FLAG...] [ARGUMENT...]", "", "Prepare a pod before its application starts.", ""]
    return "\n".join([*head, *lines, "", f"{PROG} SUBCOMMAND --help says what each can be told."])


def _find(name: str) -> Subcommand:
    if name in SUBCOMMANDS:
        return SUBCOMMANDS[name]
    if ":" in name:
        raise WrongSettings(f"{PROG} needs a subcommand before its arguments: {PROG} wait TARGET...")
    from sidecars.core.values import nearest

    raise WrongSettings(f"the subcommand {name!r} is unknown; {nearest(name, SUBCOMMANDS)}")


def _run(name: str, subcommand: Subcommand, argv: list[str], environ: Mapping[str, str]) -> NoReturn:
    # What imports make lives as long as the process: looking through it for garbage takes a tenth of the start.
    gc.disable()
    module = _module(name, subcommand)
    command: list[str] = []
    if subcommand.wraps and "--" in argv:
        argv, command = argv[: argv.index("--")], argv[argv.index("--") + 1 :]
        if not command:
            raise WrongSettings("nothing follows --; name the command to run afterwards, or leave -- out")
    from sidecars.core.settings import load

    settings = load(module.Settings, prog=f"{PROG} {name}", prefix=PREFIX, argv=argv, environ=environ)
    from sidecars.core import log

    provenance = settings.provenance
    log.configure(settings.log_level, settings.log_format, provenance.conceal)
    # A probe runs beside another subcommand, whose variables it meets, and says nothing of them every ten seconds.
    for warning in provenance.warnings if hasattr(settings, "termination_log") else ():
        log.log.warning("setting ignored", reason=warning)
    gc.freeze()
    gc.enable()
    ending = _ending(module, settings, command if subcommand.wraps else None)
    if not ending.code and command:
        ending = _become(command)
    _tell(ending, getattr(settings, "termination_log", None))
    leave(ending.code)


def _module(name: str, subcommand: Subcommand) -> Any:
    path = f"sidecars.init.{subcommand.module}"
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name != path:
            raise
        raise WrongSettings(f"this image has no {PROG} {name}; take a later one") from None


def _ending(module: Any, settings: Any, command: list[str] | None) -> Ending:
    from sidecars.core.ending import Ending, failed, finished

    try:
        take()
        if command is None:
            module.run(settings)
        else:
            module.run(settings, command)
    except Ended as end:
        return finished(end.undone, end.signal)
    except Exception as error:  # noqa: BLE001  (this is the top)
        return failed(error)
    finally:
        end_at_once()
    return Ending(0)


def _become(command: list[str]) -> Ending:
    """Let the command take this process over, with its id, its environment and the descriptors it was given."""
    from sidecars.core.ending import Ending
    from sidecars.core.log import log, stderr

    log.info("done", next=command[0])
    stderr.flush(1.0)
    _flush()
    release()
    try:
        os.execvp(command[0], command)  # noqa: S606  (no shell is wanted)
    except OSError as error:
        return Ending(1, f"cannot run {command[0]!r}: {error.strerror}; is it in this image?")


def _tell(ending: Ending, termination_log: str | None) -> None:
    """Say how it ended. A probe leaves no termination message: the container that it looks at has its own."""
    if termination_log is not None:
        ending.tell(termination_log)
    elif ending.code:
        from sidecars.core.log import stderr

        stderr.write(ending.reason)


def _refuse(prog: str, error: SidecarError, argv: list[str], environ: Mapping[str, str]) -> NoReturn:
    """Say in plain text what keeps the program from running: its reader has just typed the command."""
    from sidecars.core.ending import write_termination_message
    from sidecars.core.healthcheck import given

    _complain(f"{prog}: {error}")
    if not prog.endswith(" healthcheck"):
        path = given("termination-log", argv, environ, PREFIX) or "/dev/termination-log"
        write_termination_message(path, str(error))
    leave(error.exit_code)


def _complain(text: str) -> None:
    if sys.stderr is not None:  # Closed at the start it is None, which print() takes for stdout.
        print(text, file=sys.stderr, flush=True)


def leave(code: int) -> NoReturn:
    """End the process at once: neither a thread that hangs in a name look-up nor a lost stderr holds it back."""
    from sidecars.core.log import stderr

    stderr.flush(1.0)
    _flush()
    os._exit(code)


def _flush() -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):  # Nobody may read it any more.
        sys.stdout.flush()
