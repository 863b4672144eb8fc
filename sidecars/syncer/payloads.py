"""What a git host says when something was pushed to it: which event, which refs, and who says so."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import msgspec

Body = bytes | bytearray

_HASH = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_EVENTS = ("x-github-event", "x-gitea-event", "x-forgejo-event", "x-gogs-event", "x-gitlab-event", "x-event-key")
_PINGS = ("ping", "diagnostics:ping")
SYSTEM_PUSHES = ("push", "tag_push", "repository_update")
_PUSHES = ("push", "push hook", "tag push hook", "system hook", "repo:push", "repo:refs_changed")
# Hexadecimal HMAC-SHA256 of the body, after this prefix. What is signed by SHA-1 alone is refused.
_SIGNATURES = {
    "x-hub-signature-256": "sha256=",  # GitHub, Gitea, Forgejo
    "x-hub-signature": "sha256=",  # Bitbucket; sha1= of GitHub
    "x-gitea-signature": "",
    "x-forgejo-signature": "",
    "x-gogs-signature": "",
}


class MalformedPayload(ValueError):  # noqa: N818
    """The body is not what its sender's documentation says."""


class Update(NamedTuple):
    """One ref that has moved: refs/heads/main, and where to, None when that is not said."""

    ref: str
    hash: str | None
    deleted: bool = False


class Payload(NamedTuple):
    """What was pushed; a sender that says nothing has no updates. What is not named is "".

    event  GitLab's system hooks tell the kind of event here, not in a header
    """

    updates: tuple[Update, ...]
    default_branch: str = ""
    event: str = ""


class Event(NamedTuple):
    """What kind of thing the sender tells of."""

    name: str
    ping: bool
    push: bool


def event(headers: Mapping[str, str]) -> Event:
    """Tell what kind of event it is, by the headers; one without a kind, as from a script, is a push."""
    name = next((headers[each] for each in _EVENTS if each in headers), "")
    return Event(name, name.lower() in _PINGS, not name or name.lower() in _PUSHES)


def promises(headers: Mapping[str, str]) -> bool:
    """Whether the headers hold anything that may prove the sender knows the secret."""
    signed = any(headers.get(name, "").startswith(prefix) and headers.get(name) for name, prefix in _SIGNATURES.items())
    return signed or "x-gitlab-token" in headers or _bearer(headers) is not None


def proven(headers: Mapping[str, str], body: Body, secret: str) -> bool:
    """Whether the sender knows the secret, by a comparison whose time tells nothing; an empty secret proves nothing."""
    key = secret.encode()
    if not key:
        return False
    for shown in (headers.get("x-gitlab-token"), _bearer(headers)):
        # A header is Latin-1 to HTTP; what was sent are the secret's bytes.
        if shown is not None and hmac.compare_digest(shown.encode("latin-1", "replace"), key):
            return True
    given = [headers[name].removeprefix(prefix) for name, prefix in _signed(headers)]
    if not given:
        return False
    digest = hmac.new(key, body, hashlib.sha256).hexdigest().encode()
    return any(hmac.compare_digest(each.strip().lower().encode("latin-1", "replace"), digest) for each in given)


def _signed(headers: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, prefix in _SIGNATURES.items():
        if name in headers and headers[name].startswith(prefix):
            yield name, prefix


def _bearer(headers: Mapping[str, str]) -> str | None:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


class _Named(msgspec.Struct):
    default_branch: str | None = None


class _Ref(msgspec.Struct):
    id: str | None = None


class _Target(msgspec.Struct):
    hash: str | None = None


class _Tip(msgspec.Struct):
    type: str | None = None
    name: str | None = None
    target: _Target | None = None


class _Change(msgspec.Struct, rename={"to_hash": "toHash"}):
    """One change, by Bitbucket's cloud (new, old), its server (ref, toHash) or GitLab's system hook (ref, after)."""

    new: _Tip | None = None
    old: _Tip | None = None
    ref: _Ref | str | None = None
    to_hash: str | None = None
    after: str | None = None
    type: str | None = None


class _Push(msgspec.Struct):
    changes: tuple[_Change, ...] | None = None


class _Document(msgspec.Struct):
    """The few fields that matter; all others are passed over without being kept."""

    event_name: str | None = None
    ref: str | None = None
    after: str | None = None
    deleted: bool | None = None
    repository: _Named | None = None
    project: _Named | None = None
    push: _Push | None = None
    changes: tuple[_Change, ...] | None = None


def parse(body: Body, content_type: str) -> Payload:
    """Read a payload: JSON, or a form that holds JSON as `payload`. An empty body says nothing.

        {"ref": "refs/heads/main", "after": "0a1b...", "repository": {"default_branch": "main"}}

    Raises MalformedPayload.

    Source: the webhook pages of GitHub, GitLab, Gitea and Bitbucket.
    """
    text: Any = body
    form = content_type.partition(";")[0].strip().lower() == "application/x-www-form-urlencoded"
    if form and not body.startswith(b"{"):  # curl -d calls whatever it sends a form
        text = _in_form(body)
    if not bytes(text[:64]).strip():
        return Payload(())
    try:
        document = msgspec.json.decode(text, type=_Document)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise MalformedPayload(f"the payload is of no use: {error}") from error
    named = document.repository or document.project
    default = named.default_branch if named else None
    if not default and document.project:
        default = document.project.default_branch
    return Payload(tuple(_updates(document)), default or "", document.event_name or "")


def _in_form(body: Body) -> bytes:
    try:
        fields = parse_qs(bytes(body).decode("ascii"), keep_blank_values=True, max_num_fields=100)
    except ValueError as error:
        raise MalformedPayload(f"the form is of no use: {error}") from error
    if "payload" not in fields:
        raise MalformedPayload("the form has no field named payload")
    return fields["payload"][-1].encode()


def _updates(document: _Document) -> Iterator[Update]:
    if document.ref:
        yield _update(document.ref, document.after, document.deleted or False)
    changes = (document.push.changes if document.push else None) or document.changes or ()
    for change in changes:
        ref = change.ref.id if isinstance(change.ref, _Ref) else change.ref
        if ref:
            yield _update(ref, change.to_hash or change.after, change.type == "DELETE")
        tip = change.new or change.old
        if tip and tip.name:
            kind = "tags" if tip.type == "tag" else "heads"
            target = change.new.target if change.new else None
            yield _update(f"refs/{kind}/{tip.name}", target.hash if target else None, change.new is None)


def _update(ref: str, hash: str | None, deleted: bool) -> Update:
    whole = hash if hash and _HASH.fullmatch(hash) else None
    gone = deleted or (whole is not None and not whole.strip("0"))
    return Update(ref, None if gone else whole, gone)


def wanted(payload: Payload, ref: str) -> tuple[bool, str | None]:
    """Tell whether a payload concerns a --ref, and which hash that is at now, None when it does not say."""
    if not payload.updates:
        return True, None
    for update in payload.updates:
        if not update.deleted and _concerns(update, ref, payload.default_branch):
            return True, update.hash
    return False, None


def _concerns(update: Update, ref: str, default_branch: str) -> bool:
    branch = update.ref.removeprefix("refs/heads/")
    if ref == "HEAD":
        return branch in (default_branch, "HEAD") if default_branch else not branch.startswith("refs/")
    if _HASH.fullmatch(ref):
        return update.hash == ref
    names = (ref, f"refs/{ref}", f"refs/heads/{ref}", f"refs/tags/{ref}")
    return update.ref in names or ref == f"refs/heads/{update.ref}"
