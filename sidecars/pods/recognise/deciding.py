"""Steps, made into one verdict: whether a container of ours can take the place, and what a person has to know."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sidecars.pods.recognise import idle
from sidecars.pods.recognise.accepted import complaint
from sidecars.pods.recognise.calling import Call
from sidecars.pods.recognise.finding import Finding, Step, Unclear
from sidecars.pods.recognise.keeping import KILLS
from sidecars.pods.recognise.scope import Scope, duration, references, rendered, repository, seconds, shown
from sidecars.pods.recognise.waiting import waits_for_file
from sidecars.pods.statements import Chain, Command, Statement
from sidecars.pods.verdict import Container, Kind, Replacement, Verdict

_WAIT = "5m"
_SECRETS = ("PGPASSWORD", "MYSQL_PWD", "REDISCLI_AUTH", "MYSQL_ROOT_PASSWORD", "MYSQL_PASSWORD")
_WAITS = range(1, 11)
# What an application does for itself before it starts is its own; what it waits for and fetches can be taken from it.
_WORTH_SAYING = frozenset((*_WAITS, 20, 21, 22, 25, 26, 27, 34))
_SAID_OF_APPLICATIONS = frozenset((31, 32, 33, 35, 38))
_NATIVE_SIDECARS = (1, 29)
# What runs beside an application and belongs to somebody else.
_KNOWN_SIDECARS = (
    "git-sync",
    "fluentd",
    "fluent-bit",
    "twemproxy",
    "adapter-node-server",
    "socat",
    "envoy",
    "filebeat",
)
# What may be all that a pod is for.
_SERVING = ("log-tailer", "ambassador", "git-syncer")
_OURS = ("log-tailer", "log-adapter", "s3-shipper", "git-syncer", "ambassador", "pod-init")


def decide(found: Sequence[Step], call: Call, scope: Scope) -> Verdict | None:
    """Make the verdict on a container; None when there is nothing to say."""
    container = scope.container
    found = _without_kills(found)
    findings = [step for step in found if isinstance(step, Finding) and step.found]
    others = [step for step in found if isinstance(step, Unclear)]
    whole = call.script.whole and not others
    if not findings:
        return _delay(found, call, container) if call.script.whole else None
    if refused := [each for each in findings if each.kind == "refuse" and _concerns(each, container)]:
        return _said(refused[0], "refuse")
    findings = _of_its_kind(findings, whole, container)
    if not findings:
        return None
    if whole and all(each.sure for each in findings):
        return _exact(findings, call, scope)
    if whole and all(each.kind == "native" for each in findings):
        return _said(findings[0], "native")
    if ends := [each for each in findings if each.pattern == 34]:
        return _said(ends[0], "native" if container.target >= _NATIVE_SIDECARS else "partial")
    return _partial(findings, others, scope)


def _without_kills(found: Sequence[Step]) -> Sequence[Step]:
    """Take a kill for what it is where no file is waited for before: nobody knows whom it ends."""
    if any(isinstance(step, Finding) and waits_for_file(step) for step in found):
        return found
    return [Unclear("kill") if isinstance(step, Finding) and step.found == KILLS else step for step in found]


def _concerns(finding: Finding, container: Container) -> bool:
    """What the application does as its own work is not to be refused, but for what concerns others too."""
    return not container.only or finding.pattern in _SAID_OF_APPLICATIONS


def _of_its_kind(findings: list[Finding], whole: bool, container: Container) -> list[Finding]:
    """Leave out what is the application's own business."""
    if container.init:
        return findings
    loops = [each for each in findings if each.loops]
    worth_saying = [each for each in findings if each.pattern in _WORTH_SAYING and not _of_itself(each)]
    if not loops:
        return worth_saying
    if container.only:
        return findings if whole and all(each.image in _SERVING for each in loops) else []
    if all(each.args[:1] == ("pause",) for each in loops):
        return findings if whole and not _is_application(container) and not container.mounts else []
    return findings


def _of_itself(finding: Finding) -> bool:
    """It waits for something that the container has started itself."""
    hosts = [target.partition("://")[2] for target in finding.targets]
    return bool(hosts) and all(host.startswith(("localhost", "127.0.0.1", "[::1]")) for host in hosts)


def _is_application(container: Container) -> bool:
    """All others in the pod are known to be there for something else."""
    names = list(map(repository, container.others))
    return bool(names) and all(name in _OURS or any(word in name for word in _KNOWN_SIDECARS) for name in names)


def _exact(findings: list[Finding], call: Call, scope: Scope) -> Verdict | None:
    container = scope.container
    doubt = _fits(findings, container)
    if doubt:
        return _partial(findings, [], scope, doubt)
    args = [_args(each, container) for each in findings]
    left_out = _left_out(call, container)
    unneeded = (scope.used | set(_SECRETS)) - _needed(findings)
    dropped = tuple(name for name in container.env if name in unneeded)
    replacements = tuple(
        Replacement(
            image=each.image,
            args=words,
            drop_env=dropped,
            notes=(*each.notes, *left_out),
            sidecar=each.loops,
            read_only=each.read_only,
        )
        for each, words in zip(findings, args, strict=True)
    )
    for each in replacements:
        if said := complaint(each, container.env, expands=container.expands):
            return _partial(findings, [], scope, said)
    return Verdict(
        kind="exact",
        pattern=findings[0].pattern,
        found=_joined([each.found for each in findings]),
        wrong=findings[0].wrong,
        instead=_one_line(_commands(findings)),
        replacements=replacements,
    )


def _left_out(call: Call, container: Container) -> tuple[str, ...]:
    """Say which sleeps are not waited for any more, of those that the start of the application was put off by."""
    statements = [each for statement in call.script.statements for each in _row(statement)]
    sleeps = [str(each.words[1]) for each in statements if isinstance(each, Command) and _sleeps(each)]
    if not sleeps or not container.init:
        return ()
    return (f"its sleep {sleeps[0]} is left out: if it is needed, wait for what it hopes for, by another target",)


def _needed(findings: Sequence[Finding]) -> set[str]:
    """Give the variables that are read by what is put in the place of the script."""
    words = [word for each in findings for word in (*each.args, *each.targets)]
    named = [word.partition("=")[2] for word in words if word.startswith(("--from-env=", "--vars="))]
    return {name for word in words for name in references(word)} | {name for text in named for name in text.split(",")}


def _fits(findings: list[Finding], container: Container) -> str:
    """Say why what was found cannot stand in the container's place; nothing when it can."""
    loops = [each for each in findings if each.loops]
    if container.init:
        return "an init container that never ends keeps the pod from starting; make it a sidecar" if loops else ""
    if not loops:
        return "it belongs into an init container, before the application starts"
    return "" if len(findings) == 1 else "these are several containers"


def _args(finding: Finding, container: Container) -> tuple[str, ...]:
    words = (*finding.args, *_wait(finding)) if finding.targets else finding.args
    return tuple(rendered(word, container.expands) for word in words)


def _wait(finding: Finding) -> tuple[str, ...]:
    some = ("--any",) if finding.some and len(finding.targets) > 1 else ()
    return ("wait", *finding.targets, *some, f"--timeout={duration(finding.limit) if finding.limit else _WAIT}")


def _commands(findings: Sequence[Finding]) -> str:
    """Write what does the same, for people."""
    return ", then ".join(dict.fromkeys(_command(each) for each in findings))


def _command(finding: Finding) -> str:
    words = (*finding.args, *_wait(finding)) if finding.targets else finding.args
    return " ".join((finding.image, *(shown(word) for word in words)))


def _said(finding: Finding, kind: Kind) -> Verdict:
    return Verdict(
        kind=kind,
        pattern=finding.pattern,
        found=finding.found,
        wrong=finding.wrong,
        instead=_one_line(_advice(finding)),
    )


def _partial(findings: list[Finding], others: Sequence[Unclear], scope: Scope, doubt: str = "") -> Verdict:
    first = findings[0]
    reason = doubt or next((each.doubt for each in findings if each.doubt), "") or _rest(findings, others, scope)
    instead = "; ".join(dict.fromkeys(_advice(each) for each in findings))
    return Verdict(
        kind="partial",
        pattern=first.pattern,
        found=_joined([each.found for each in findings]),
        wrong=first.wrong,
        instead=_one_line(f"{instead}; but {shown(reason)}" if reason else instead),
    )


def _advice(finding: Finding) -> str:
    if finding.instead:
        return shown(finding.instead)
    return _command(finding)


def _rest(findings: Sequence[Finding], others: Sequence[Unclear], scope: Scope) -> str:
    """Say what keeps it from being exact where nothing else does."""
    if not others:
        unknown = any(each.kind == "exact" and not each.sure for each in findings)
        return "not all of it is known before it runs" if unknown else ""
    name = next((each.name for each in others if each.name), "")
    what = f"the script does more than that ({name})" if name else "the script does more than that"
    if any(each.loops for each in findings):
        return f"{what}: make this a container of its own"
    return what if scope.container.init else f"{what}: put this into an init container, and leave the rest"


def _joined(texts: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(text for text in texts if text))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _delay(found: Sequence[Step], call: Call, container: Container) -> Verdict | None:
    """Recognise a fixed sleep before a start: row 11 of the catalogue."""
    statements = [each for statement in call.script.statements for each in _row(statement)]
    sleeps = [place for place, each in enumerate(statements) if _sleeps(each)]
    if not sleeps or not all(map(idle.idle, statements[: sleeps[0]])):
        return None
    if not container.init and all(map(idle.idle, statements[sleeps[0] :])):
        return None
    return Verdict(
        kind="partial" if found else "native",
        pattern=11,
        found="a fixed sleep before the start",
        wrong="it is too long on one day, and too short on another",
        instead="pod-init wait for what it hopes for, in an init container; or a startupProbe of what it waits for",
    )


def _row(statement: Statement) -> Iterator[Statement]:
    if isinstance(statement, Chain) and statement.operator == "&&":
        yield from (*_row(statement.left), *_row(statement.right))
    else:
        yield statement


def _sleeps(statement: Statement) -> bool:
    match statement:
        case Command([name, length]) if name.literal == "sleep":
            return seconds(length.literal or "") is not None
    return False
