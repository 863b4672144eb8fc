"""What none of our images does: rows 31 to 33, 35, 37 and 38 of the catalogue."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sidecars.pods.recognise import idle
from sidecars.pods.recognise.finding import Finding, Step
from sidecars.pods.recognise.scope import Scope
from sidecars.pods.statements import Command, Each, Loop, Pipeline, Statement, Word

_WATCHERS = frozenset(("inotifywait", "inotifyd", "fswatch", "entr"))
_DUMPS = frozenset(
    ("pg_dump", "pg_dumpall", "mysqldump", "mariadb-dump", "mongodump", "pg_basebackup", "xtrabackup", "restic", "borg")
)
_CERTIFICATES = frozenset(("keytool", "update-ca-certificates", "update-ca-trust", "cfssl", "mkcert", "step"))
_CRONS = frozenset(("crond", "crontab", "logrotate", "cron"))


def refuse(statement: Statement, scope: Scope) -> tuple[Step, ...] | None:
    """Recognise what is to be left alone, and say why."""
    turns = idle.endless(statement)
    for recognise in _ALWAYS if turns is None else _LOOPS:
        finding = recognise(statement, scope)
        if finding:
            return (finding,)
    return None


def _refusal(pattern: int, found: str, wrong: str, instead: str) -> Finding:
    return Finding(kind="refuse", pattern=pattern, found=found, wrong=wrong, instead=instead)


def _commands(statement: Statement) -> Iterator[Command]:
    return idle.commands((statement,))


def _reloads(statement: Statement, scope: Scope) -> Finding | None:
    if not isinstance(statement, Loop | Pipeline) or not any(each.name in _WATCHERS for each in _commands(statement)):
        return None
    return _refusal(
        31,
        "a reload when a file changes",
        "a ConfigMap changes by another symlink, of which a watch of the file sees nothing",
        "nothing of ours reloads other programs; many watch their configuration themselves, else roll the pods anew",
    )


def _dumps(statement: Statement, scope: Scope) -> Finding | None:
    if not any(each.name in _DUMPS for each in _commands(statement)):
        return None
    return _refusal(
        32,
        "a backup in a loop",
        "its time drifts, half a dump counts as one, and old ones are deleted after new ones have failed",
        "make it a CronJob, that checks the dump before it deletes another",
    )


def _prunes(statement: Statement, scope: Scope) -> Finding | None:
    finds = [each for each in _commands(statement) if each.name == "find"]
    deletes = any({"-delete", "rm"} & {word.literal for word in each.words} for each in finds)
    if not deletes:
        return None
    return _refusal(
        33,
        "old files deleted in a loop",
        "files are deleted while they are written, and the volume has no bound",
        "for logs, log-tailer --remove-rotated-after 1h removes what was delivered; a sizeLimit bounds the volume",
    )


def _rotates(statement: Statement, scope: Scope) -> Finding | None:
    if not isinstance(statement, Command) or statement.name not in _CRONS or scope.container.only:
        return None
    return _refusal(
        33,
        "logs rotated by cron beside the application",
        "a cron in a container logs nowhere, and fails unseen",
        "let the application rotate, and log-tailer --remove-rotated-after 1h remove; nothing of ours rotates",
    )


def _tunes(statement: Statement, scope: Scope) -> Finding | None:
    for command in _commands(statement):
        writes = [str(redirect.word) for redirect in command.redirects if ">" in redirect.operator]
        if (command.name == "sysctl" and len(command.words) > 1) or any("/proc/sys/" in path for path in writes):
            return _refusal(
                35,
                "a setting of the node's kernel",
                "it needs all rights, and changes the node for everybody on it",
                "tune the node where it is made, or use securityContext.sysctls for what is the pod's own",
            )
    return None


def _certifies(statement: Statement, scope: Scope) -> Finding | None:
    if not scope.container.init:
        return None
    for command in _commands(statement):
        words = [word.literal for word in command.words]
        made = command.name == "openssl" and bool({"req", "x509", "genrsa", "pkcs12", "genpkey"} & set(words))
        if made or command.name in _CERTIFICATES:
            return _refusal(
                37,
                "a certificate or trust store made at the start",
                "each start makes another, with a key that the image's tools have put to disk",
                "let cert-manager make it, or trust-manager the bundle, and mount the Secret or ConfigMap",
            )
    return None


def _produces(statement: Statement, scope: Scope) -> Finding | None:
    """Read `while true; do date >> /var/log/app.log; sleep 5; done`."""
    turns = idle.endless(statement)
    if turns is None and not isinstance(statement, Each):
        return None
    if not any(map(_appends, idle.everything((statement,)))):
        return None
    return _refusal(
        38,
        "a loop that writes a log",
        "the log is never rotated, and process 1 ignores SIGTERM",
        "it is the application, and stays: bound the volume by a sizeLimit, and add `trap 'exit 0' TERM`",
    )


def _appends(statement: Statement) -> bool:
    match statement:
        case Command() if statement.name in ("echo", "printf", "date", "seq"):
            return any(each.operator in (">>", ">") and _is_file(each.word) for each in statement.redirects)
        case Pipeline([Command() as first, Command() as last]) if last.name == "tee":
            return first.name in ("echo", "printf", "date")
    return False


def _is_file(word: Word) -> bool:
    return str(word) not in ("/dev/null", "/dev/stdout", "/dev/stderr") and not str(word).startswith("/proc/")


_Recogniser = Callable[[Statement, Scope], Finding | None]
_ALWAYS: tuple[_Recogniser, ...] = (_reloads, _tunes, _certifies, _rotates, _produces)
_LOOPS: tuple[_Recogniser, ...] = (_reloads, _dumps, _prunes, *_ALWAYS)
