"""Images that do one thing, by name: what takes their place, whatever registry and version they are of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from msgspec.structs import replace

from sidecars.core.errors import SidecarError
from sidecars.pods.images import base
from sidecars.pods.recognise import recognise
from sidecars.pods.verdict import Container, Kind, Replacement, Verdict

IMAGE = 0
"""The pattern of a verdict on an image: it has no row in the catalogue of shell loops."""


def known(container: Container) -> Verdict | None:
    """Say what takes the place of an image that does one thing; None for others, and where it runs something else."""
    repository = _repository(container.image)
    for name, judge in KNOWN.items():
        if repository == name or repository.endswith(f"/{name}") or ("/" not in name and base(repository) == name):
            return judge(container)
    return None


def _repository(image: str) -> str:
    """The name without registry's port, tag and digest."""
    path, slash, last = image.partition("@")[0].rpartition("/")
    return f"{path}{slash}{last.partition(':')[0]}"


def _adapter_node_server(container: Container) -> Verdict | None:
    wrong = "each answer has all lines once more, the file must be there, no end on SIGTERM"
    if container.command or container.args:
        return _verdict("partial", "adapter-node-server with a command of its own", wrong, "see docs/log-adapter.md")
    path = next(
        (mount for _, mount, _ in container.mounts if "/var/log/file.log".startswith(mount.rstrip("/") + "/")), ""
    )
    replacement = Replacement(image="log-adapter", sidecar=True, read_only=(path,) if path else ())
    return _exact("adapter-node-server", wrong, "log-adapter has the same file, port and answer", replacement)


def _fluentd_s3(container: Container) -> Verdict | None:
    wrong = "a chunk is shipped twice after a crash, the last minute is lost with the pod, keys stand in a ConfigMap"
    words = container.command + container.args
    if words[:1] == ("fluentd",):
        words = words[1:]
    elif container.command:
        return _verdict(
            "partial", "fluentd-s3 with a command of its own", wrong, "see docs/s3-shipper.md, In fluentd's place"
        )
    if not words and "FLUENTD_ARGS" not in container.env:
        words = ("-c", "/fluentd/etc/fluent.conf")
    note = (
        "s3-shipper --check-config says whether it reads all of the fluent.conf; take the keys out of it, to a Secret"
    )
    replacement = Replacement(image="s3-shipper", args=words, sidecar=True, notes=(note,))
    return _exact("fluentd-s3", wrong, "s3-shipper reads the same fluent.conf", replacement)


def _git_sync(container: Container) -> Verdict | None:
    wrong = "the first failure ends it, nothing makes the application wait for the first revision"
    if container.command not in {(), ("/git-sync",), ("git-sync",)}:
        return _verdict(
            "partial", "git-sync with a command of its own", wrong, "see docs/git-syncer.md, In place of git-sync"
        )
    args = tuple(f"-{word}" if _old(word) else word for word in container.args)
    problem = _syncer_problem(container, args)
    if problem:
        return _verdict(
            "partial", "git-sync", wrong, f"git-syncer takes what git-sync v4 and v3 take, but here: {problem}"
        )
    once = _once(container)
    replacement = Replacement(
        image="git-syncer",
        args=args,
        env=_syncer_variables(container, once),
        sidecar=not once and not container.init,
        notes=() if once else ("the application starts once the first revision is published",),
    )
    instead = "git-syncer has the same settings" + ("" if once else ", and goes on after a failure")
    return _exact("git-sync", wrong, instead, replacement)


def _old(word: str) -> bool:
    """Whether a word is a long flag behind one dash, which version 3 took."""
    return word.startswith("-") and not word.startswith("--") and len(word.partition("=")[0]) > 2


def _syncer_problem(container: Container, args: tuple[str, ...]) -> str:
    """What git-syncer says of the container's words and variables; empty when they are right."""
    from sidecars.syncer import words  # few manifests pay for it

    given = {name: value for name, value in container.env.items() if value is not None and "$(" not in value}
    if container.env_from or None in container.env.values() or any("$(" in word for word in args):
        return ""  # what is not in the manifest cannot be read
    try:
        words.load(args, {"GITSYNC_ROOT": "/git", **given})
    except SidecarError as error:
        return str(error)
    return ""


def _once(container: Container) -> bool:
    values = [container.env.get(name) for name in ("GITSYNC_ONE_TIME", "GIT_SYNC_ONE_TIME")]
    flags = {word.lstrip("-") for word in container.args}
    return bool(flags & {"one-time", "one-time=true"}) or any(
        (value or "").lower() in {"true", "1", "t"} for value in values
    )


def _syncer_variables(container: Container, once: bool) -> dict[str, str]:
    """What git-sync's image has by default and ours has otherwise, and what makes it go on."""
    flags = {word.lstrip("-").partition("=")[0] for word in container.args}
    added = {}
    if "root" not in flags and not {"GITSYNC_ROOT", "GIT_SYNC_ROOT"} & set(container.env):
        added["GITSYNC_ROOT"] = "/tmp/git"  # noqa: S108  (the image's own)
    failures = {"GITSYNC_MAX_FAILURES", "GIT_SYNC_MAX_FAILURES", "GIT_SYNC_MAX_SYNC_FAILURES"} & set(container.env)
    if not once and not failures and not flags & {"max-failures", "max-sync-failures"}:
        added["GITSYNC_MAX_FAILURES"] = "-1"
    return added


def _twemproxy(container: Container) -> Verdict | None:
    wrong = (
        "today's Redis clients cannot connect through it, a name is resolved once, no probe, SIGTERM cuts connections"
    )
    if container.command or container.args:
        advice = "`nutcracker` is a command of our image too; see docs/ambassador.md, Its program"
        return _verdict("partial", "twemproxy with a command of its own", wrong, advice)
    servers = container.env.get("REDIS_SERVERS", "" if not container.mounts else None)
    if servers == "":
        return _verdict("partial", "twemproxy", wrong, "set REDIS_SERVERS, which the ambassador reads as well")
    notes: tuple[str, ...] = ()
    if servers and " " in servers.strip() and "," not in servers:
        notes = ("twemproxy kept every key on the first server, since spaces separate them; here each is a shard",)
    replacement = Replacement(image="ambassador", sidecar=True, notes=notes)
    return _exact("twemproxy", wrong, "the ambassador has the same variables, port and place for each key", replacement)


def _entry(program: str) -> Callable[[Container], Verdict | None]:
    """An image whose entry point is a program that the recognisers know: judge it as that command."""

    def judge(container: Container) -> Verdict | None:
        if container.command:
            return None
        return recognise(replace(container, command=(program, *container.args), args=()))

    return judge


def _dockerize(container: Container) -> Verdict | None:
    wrong = "it waits for 10 seconds by default, and says little of why"
    flags, rest = _flags(container.command[1:] + container.args if container.command else container.args)
    advice = "see docs/pod-init.md, In place of wait-for-it, dockerize and k8s-wait-for"
    names = {name for name, _ in flags}
    if (
        rest
        or not names
        or names - {"wait", "timeout", "wait-retry-interval"}
        or container.command[:1] not in {(), ("dockerize",)}
    ):
        return _verdict(
            "partial", "dockerize", wrong, f"`pod-init wait` waits, `pod-init render` writes files; {advice}"
        )
    targets = tuple(_dockerized(value) for name, value in flags if name == "wait")
    given = dict(flags)
    pace = (f"--interval={given['wait-retry-interval']}",) if "wait-retry-interval" in given else ()
    args = ("wait", *targets, f"--timeout={given.get('timeout', '10s')}", *pace)
    if not targets or not _waits(args):
        return _verdict("partial", "dockerize", wrong, f"pod-init does not know its targets as they stand; {advice}")
    return _exact("dockerize -wait", wrong, "pod-init waits for the same", Replacement(image="pod-init", args=args))


def _flags(words: tuple[str, ...]) -> tuple[list[tuple[str, str]], list[str]]:
    """Go's flags with their values, and what stands behind them: of `-wait tcp://db:1 sh` it is [sh]."""
    flags, rest = [], list(words)
    while rest and rest[0].startswith("-"):
        name, equals, value = rest.pop(0).lstrip("-").partition("=")
        if not equals and rest:
            value = rest.pop(0)
        flags.append((name, value))
    return flags, rest


def _dockerized(target: str) -> str:
    """dockerize's target in our words: it follows redirects, and its tcp4 is tcp."""
    scheme, colon, rest = target.partition(":")
    if scheme in {"http", "https"}:
        return f"{target}{'#' if urlsplit(target).query else '?'}follow"
    return f"tcp{colon}{rest}" if scheme in {"tcp4", "tcp6"} else target


def _k8s_wait_for(container: Container) -> Verdict | None:
    wrong = "it waits for ever, also when a Job has failed, with a shell and kubectl in its image"
    advice = "`pod-init wait k8s:job/NAME` of pod-init-full; see docs/pod-init.md, Objects of Kubernetes"
    args = _waited(container.args) if not container.command else ()
    if not args or not set(container.env) <= {"WAIT_TIME", "DEBUG"}:
        return _verdict("partial", "k8s-wait-for", wrong, advice)
    replacement = Replacement(image="pod-init-full", args=args, drop_env=("WAIT_TIME", "DEBUG"))
    return _exact(
        "k8s-wait-for", wrong, "pod-init waits for the same objects, and ends when the Job has failed", replacement
    )


def _waited(words: tuple[str, ...]) -> tuple[str, ...]:
    """pod-init's words for those of k8s-wait-for; none when there is one that only a person understands.

    A Service is not among them: it is looked up in endpointslices, for which the account may have no right.
    """
    match words:
        case [("job" | "pod") as kind, name] if not name.startswith("-"):
            target = f"k8s:{kind}/{name}"
        case [("job" | "pod") as kind, selector] if selector.startswith("-l"):
            target = f"k8s:{kind}?selector={selector[2:]}"
        case [("job" | "pod") as kind, "-l", selector]:
            target = f"k8s:{kind}?selector={selector}"
        case _:
            return ()
    args = ("wait", target, "--timeout=1h")
    return args if _waits(args) else ()


def _waits(args: tuple[str, ...]) -> bool:
    """Whether pod-init understands these words."""
    from sidecars.core.settings import load
    from sidecars.init.waiting import Settings

    try:
        load(Settings, prog="pod-init wait", prefix="INIT_", argv=args[1:], environ={})
    except SidecarError:
        return False
    return True


def _exact(found: str, wrong: str, instead: str, replacement: Replacement) -> Verdict:
    return Verdict(kind="exact", pattern=IMAGE, found=found, wrong=wrong, instead=instead, replacements=(replacement,))


def _verdict(kind: Kind, found: str, wrong: str, instead: str) -> Verdict:
    return Verdict(kind=kind, pattern=IMAGE, found=found, wrong=wrong, instead=instead)


KNOWN: Mapping[str, Callable[[Container], Verdict | None]] = {
    "adapter-node-server": _adapter_node_server,
    "fluentd-s3": _fluentd_s3,
    "git-sync": _git_sync,
    "git-sync-amd64": _git_sync,
    "malexer/twemproxy": _twemproxy,
    "alpine/socat": _entry("socat"),
    "jwilder/dockerize": _dockerize,
    "k8s-wait-for": _k8s_wait_for,
    "bitnami/kubectl": _entry("kubectl"),
    "bitnamilegacy/kubectl": _entry("kubectl"),
    "rancher/kubectl": _entry("kubectl"),
    "alpine/kubectl": _entry("kubectl"),
    "registry.k8s.io/kubectl": _entry("kubectl"),
}
