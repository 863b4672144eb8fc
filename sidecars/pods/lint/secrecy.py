"""Rules about secrets that others can read, and about users."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from sidecars.pods.lint.rule import Complaint, Rule, Subject, at, mapping, maps
from sidecars.pods.lint.words import command_lines
from sidecars.pods.manifests import Found, words
from sidecars.pods.nodes import Node

_FLAG = re.compile(
    r"--?(?:[\w-]*-)?(?:password|passwd|passphrase|requirepass|auth-token|api-key|apikey|secret-key|secret-access-key)"
)
_USERINFO = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s:@]*:(?P<password>[^/\s@]+)@", re.IGNORECASE)
# Programs with a short flag for the password: as -pPASSWORD, or as -a PASSWORD. Sources: their manual pages.
_GLUED = {"mysql": "-p", "mysqladmin": "-p", "mysqldump": "-p", "mariadb": "-p", "mariadb-admin": "-p", "sshpass": "-p"}
_APART = {"redis-cli": ("-a", "--pass"), "sshpass": ("-p",), "mongosh": ("-p",), "mongo": ("-p",)}
_CURL = ("-u", "--user")
_SECRET_NAME = re.compile(
    r"(?:.*_)?(?:PASSWORD|PASSWD|PASSPHRASE|PASS|TOKEN|API_?KEY|SECRET_KEY|ACCESS_KEY|PRIVATE_KEY"
    r"|(?:CLIENT|JWT|APP|SESSION|COOKIE|SHARED)_SECRET)"
)
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")


def on_argv(subject: Subject) -> Iterator[Complaint]:
    """Complain of passwords on command lines; the complaint does not have them."""
    for found in subject.containers:
        for node, line in _lines(found):
            if place := _password(line):
                yield (
                    node,
                    f"a password of {found.name} is on a command line, {place}: every process list shows it; give it "
                    "by a file or a variable",
                )
                break


def _lines(found: Found) -> Iterator[tuple[Node, list[str]]]:
    """Every command line of a container: its own, and those of its probes and hooks."""
    container = found.container
    node = at(found, "args") if found.node.at("args") else at(found, "command")
    for line in command_lines((*container.command, *container.args), frozenset(container.env)):
        yield node, line
    handlers = [(kind, mapping(found.raw.get(kind))) for kind in _PROBES]
    handlers += [("lifecycle", mapping(each)) for each in mapping(found.raw.get("lifecycle")).values()]
    for kind, handler in handlers:
        for line in command_lines(words(mapping(handler.get("exec")).get("command"))):
            yield at(found, kind), line


def _password(line: list[str]) -> str:
    """Say where in a command line a password stands; empty when there is none."""
    program = line[0].rpartition("/")[2] if line else ""
    for word, following in pairwise([*line, ""]):
        flag, separator, value = word.partition("=")
        if _FLAG.fullmatch(flag) and (value if separator else following and not following.startswith("-")):
            return f"at {flag}"
        if _USERINFO.match(word):
            return "in a URL"
        if short := _short(program, word, following):
            return f"at {short} of {program}"
    return ""


def _short(program: str, word: str, following: str) -> str:
    glued = _GLUED.get(program)
    if glued and word.startswith(glued) and len(word) > len(glued) and not word.startswith("--"):
        return glued
    if following and word in _APART.get(program, ()):
        return word
    return word if program == "curl" and word in _CURL and ":" in following else ""


def in_manifest(subject: Subject) -> Iterator[Complaint]:
    """Complain of passwords that stand in the manifest; the complaint does not have them."""
    for found in subject.containers:
        for number, variable in enumerate(maps(found.raw.get("env"))):
            name, value = str(variable.get("name") or ""), variable.get("value")
            if _SECRET_NAME.fullmatch(name.upper()) and isinstance(value, str) and _is_written(value):
                yield (
                    at(found, "env", number),
                    f"the value of {name} of {found.name} stands in the manifest, for all who read it; take it from a "
                    "Secret by secretKeyRef, or from a mounted file",
                )


def _is_written(value: str) -> bool:
    """Whether a value is itself there, and is no name of another variable, no template and no file's name."""
    return bool(value.strip()) and not value.startswith(("$", "{{", "<", "/"))


def may_be_root(subject: Subject) -> Iterator[Complaint]:
    """Complain of containers that nothing keeps from being root's."""
    whole = mapping(subject.pod.spec.get("securityContext")).get("runAsNonRoot")
    named = []
    for found in subject.containers:
        own = mapping(found.raw.get("securityContext")).get("runAsNonRoot", whole)
        if own is not True:
            named.append(found.name)
    if named:
        node = subject.pod.node.at("securityContext") or subject.pod.node
        yield (
            node,
            f"{', '.join(named)} may run as root; add `runAsNonRoot: true` to the pod's securityContext, and "
            "`runAsUser` where the image's user has no number",
        )


RULES = (
    Rule(
        id="password-on-argv",
        level="error",
        title="a password on a command line",
        why="""\
The arguments of a process are readable by every process of its pod and by whoever may list processes on the node;
they are in the pod's specification too, and Kubernetes has put the value in the place of $(NAME) by then. Nearly
every program takes a file or a variable: PGPASSWORD, MYSQL_PWD, REDISCLI_AUTH, curl --netrc-file. Known are long
flags named for what they hold, URLs with a password, and the short flags of mysql, redis-cli, sshpass, mongosh and
curl.""",
        check=on_argv,
    ),
    Rule(
        id="secret-in-manifest",
        level="warning",
        title="a password as the plain `value` of a variable",
        why="""\
Who may read the Deployment, its history or the repository reads the password. valueFrom.secretKeyRef keeps the value
in a Secret, to which few have the right; a mounted file may be renewed besides, without a restart. Judged by the
variable's name: ..._PASSWORD, ..._TOKEN, ..._API_KEY and the like.""",
        check=in_manifest,
    ),
    Rule(
        id="missing-run-as-non-root",
        level="warning",
        title="no `runAsNonRoot: true` for a container",
        why="""\
Many images are root's unless told otherwise, and Pod Security's "restricted" refuses a pod that does not forbid it.
In the pod's securityContext one line is for all its containers; kubelet then refuses to start one whose user is 0, or
whose image names its user by a word, for which runAsUser gives the number.""",
        check=may_be_root,
    ),
)
