"""Rules about what starts, what ends, and in which order."""

from __future__ import annotations

from collections.abc import Iterator

from sidecars.pods.lint.rule import NATIVE_SIDECARS, Complaint, Rule, Subject, at, mapping, maps, number
from sidecars.pods.lint.words import command_lines
from sidecars.pods.manifests import Found, words
from sidecars.pods.recognise.scope import repository, seconds

# Whom an application cannot do without from its first moment: what it dials, or what it reads.
_NEEDED = frozenset(
    ("ambassador", "git-syncer", "git-sync", "cloud-sql-proxy", "cloudsql-proxy", "twemproxy", "envoy", "proxyv2",
     "pgbouncer", "haproxy", "socat", "vault", "vault-agent", "daprd", "oauth2-proxy")
)  # fmt: skip
# Ports for whom looks from outside, and not for the application.
_OBSERVED = ("metrics", "admin", "health", "probe", "status", "debug")


def never_done(subject: Subject) -> Iterator[Complaint]:
    """Complain of a second container that keeps a pod from being done."""
    if not subject.ends or len(subject.applications) < 2:
        return
    for found in subject.applications:
        role = subject.roles[found.name]
        if not role.endless or any(word.startswith("--exit-on-file") for word in found.container.args):
            continue
        remedy = "make it an init container with `restartPolicy: Always`"
        if subject.target < NATIVE_SIDECARS:
            remedy = "tell it when to end, as with --exit-on-file, or run 1.29 with a native sidecar"
        what = subject.pod.kind if subject.pod.kind != "Pod" else f"pod with restartPolicy {subject.pod.restart_policy}"
        yield found.node, f"{found.name} never ends, so this {what} is never done; {remedy}"


def ungated(subject: Subject) -> Iterator[Complaint]:
    """Complain of native sidecars that are needed at once and do not say when they are there."""
    for found in subject.containers:
        gated = "startupProbe" in found.raw or "postStart" in mapping(found.raw.get("lifecycle"))
        if found.sidecar and not gated and _is_needed(found, subject):
            yield (
                found.node,
                f"{found.name} has no startupProbe: the application starts when its process runs, and not when it "
                "serves; add one",
            )


def _is_needed(found: Found, subject: Subject) -> bool:
    role = subject.roles[found.name]
    if role.reads:
        return False
    if role.image in _NEEDED or repository(found.container.image) in _NEEDED:
        return True
    names = [str(port.get("name") or "") for port in maps(found.raw.get("ports"))]
    if any(not any(word in name for word in _OBSERVED) for name in names):
        return True
    written = {volume for volume, _, read_only in found.container.mounts if not read_only}
    read = {volume for each in subject.applications for volume, _, read_only in each.container.mounts if read_only}
    return bool(written & read)


def hangs(subject: Subject) -> Iterator[Complaint]:
    """Complain of native sidecars where there are none yet."""
    if subject.target >= NATIVE_SIDECARS:
        return
    for found in subject.containers:
        if found.sidecar:
            yield (
                at(found, "restartPolicy"),
                f"{found.name} is a native sidecar, and before 1.29 the pod waits for its end for ever; make it a "
                "second container",
            )


def short_grace(subject: Subject) -> Iterator[Complaint]:
    """Complain of a grace period that is over before the containers can be done."""
    before = max((_pause(found) for found in subject.applications), default=0.0)
    for found in subject.containers:
        pause = max(_pause(found), before) if found.sidecar else _pause(found)
        drain = subject.roles[found.name].drain
        if found.container.init or not pause or pause + drain < subject.grace:
            continue
        needs = f"{pause:g} s of preStop" + (f" and {drain:g} s to drain" if drain else "")
        yield (
            subject.pod.node.at("terminationGracePeriodSeconds") or found.node,
            f"{found.name} needs {needs}, and is killed after {subject.grace:g} s; raise "
            f"terminationGracePeriodSeconds above {pause + drain:g}",
        )


def _pause(found: Found) -> float:
    """How long the preStop hook sleeps, as far as that is written."""
    hook = mapping(mapping(found.raw.get("lifecycle")).get("preStop"))
    native = number(mapping(hook.get("sleep")).get("seconds"), 0)
    lines = command_lines(words(mapping(hook.get("exec")).get("command")))
    return native + sum(
        seconds(word) or 0 for line in lines if line[:1] and repository(line[0]) == "sleep" for word in line[1:]
    )


RULES = (
    Rule(
        id="endless-in-job",
        level="error",
        title="a container without end beside the work of a Job, or of a pod that is not started again",
        why="""\
A pod is done when all its containers have ended: beside a log tailer, a Job whose work was done hours ago still runs,
and is stopped by its deadline, as failed. A native sidecar (Kubernetes 1.29) is an init container with
`restartPolicy: Always`: it is ended after the application, and its exit code does not count. Before that, our
services end when a file appears: --exit-on-file.""",
        check=never_done,
    ),
    Rule(
        id="sidecar-without-startup-probe",
        level="warning",
        title="a native sidecar that the application needs at once, without a `startupProbe`",
        why="""\
The next container starts when the sidecar's process runs and its startupProbe has passed; readiness is not waited
for. Without the probe the application dials a proxy that does not listen yet, or reads a directory that is still
empty. Our services answer at /startupz. A sidecar is taken for needed when it has ports, writes what the application
only reads, or is a known proxy.""",
        check=ungated,
    ),
    Rule(
        id="sidecar-too-early",
        level="error",
        title="a native sidecar, where the target version has none yet",
        why="""\
Before 1.28 the API server drops `restartPolicy` of an init container, and in 1.28 its gate is off: the sidecar
becomes an ordinary init container, never ends, and the pod hangs in Init. Use an ordinary second container there.""",
        check=hangs,
    ),
    Rule(
        id="short-grace",
        level="warning",
        title="a grace period shorter than the preStop sleep and the drain after it",
        why="""\
terminationGracePeriodSeconds (30 unless given) begins with the preStop hook: what that sleeps is taken from the
drain, and after it comes SIGKILL. Native sidecars are told to end only after the application has ended, inside the
same time. A drain is counted for our images: their --grace.""",
        check=short_grace,
    ),
)
