"""What git hosts send when something was pushed, in the shapes of their documentation."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import subprocess
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecars.syncer import payloads
from sidecars.syncer.payloads import MalformedPayload, parse, promises, proven, wanted

OLD, NEW, NONE = "a" * 40, "b" * 40, "0" * 40
SECRET = "It's a Secret to Everybody"
BODY = b"Hello, World!"
# The example of GitHub's page "Validating webhook deliveries".
SIGNED = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"

GITHUB = {
    "ref": "refs/heads/main",
    "before": OLD,
    "after": NEW,
    "deleted": False,
    "repository": {"id": 1, "default_branch": "main", "owner": {"name": "octo"}},
    "commits": [{"id": NEW, "message": "x", "added": ["a"]}],
}
GITLAB = {
    "object_kind": "push",
    "event_name": "push",
    "ref": "refs/heads/main",
    "after": NEW,
    "project": {"default_branch": "main"},
    "repository": {"name": "app", "url": "git@example.com:app.git"},
}
GITLAB_SYSTEM = {
    "event_name": "repository_update",
    "project": {"default_branch": "main"},
    "changes": [{"before": OLD, "after": NEW, "ref": "refs/heads/main"}],
    "refs": ["refs/heads/main"],
}
BITBUCKET = {
    "push": {
        "changes": [
            {"new": None, "old": {"type": "branch", "name": "gone", "target": {"hash": OLD}}, "closed": True},
            {"new": {"type": "branch", "name": "main", "target": {"type": "commit", "hash": NEW}}, "old": None},
        ]
    },
    "repository": {"full_name": "team/app"},
}
BITBUCKET_SERVER = {
    "eventKey": "repo:refs_changed",
    "repository": {"slug": "app"},
    "changes": [
        {"ref": {"id": "refs/heads/main", "displayId": "main", "type": "BRANCH"}, "toHash": NEW, "type": "UPDATE"}
    ],
}


def read(document: Any) -> payloads.Payload:
    return parse(json.dumps(document).encode(), "application/json")


@pytest.mark.parametrize("document", [GITHUB, GITLAB, GITLAB_SYSTEM, BITBUCKET, BITBUCKET_SERVER])
@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        ("main", True),
        ("heads/main", True),
        ("refs/heads/main", True),
        ("HEAD", True),
        (NEW, True),
        ("mai", False),
        ("ain", False),
        ("refs/tags/main", False),
        ("gone", False),
        (OLD, False),
    ],
)
def test_a_push_concerns_the_ref_that_it_moves(document: dict[str, Any], ref: str, expected: bool) -> None:
    assert wanted(read(document), ref) == (expected, NEW if expected else None)


@pytest.mark.parametrize(
    ("pushed", "ref", "expected"),
    [
        ({"ref": "refs/tags/v1"}, "v1", True),
        ({"ref": "refs/tags/v1"}, "refs/tags/v1", True),
        ({"ref": "refs/tags/v1"}, "HEAD", False),
        ({"ref": "refs/heads/side"}, "HEAD", False),
        ({"ref": "refs/heads/side", "repository": {}}, "HEAD", True),  # the default branch is not named
        ({"ref": "refs/heads/side", "repository": {"default_branch": None}}, "HEAD", True),
        ({"ref": "refs/notes/x", "repository": {}}, "HEAD", False),
        ({"ref": "refs/heads/a/b"}, "a/b", True),
        ({"ref": "refs/heads/a/b"}, "b", False),
        ({"ref": "main"}, "refs/heads/main", True),
        ({"ref": "refs/heads/main", "after": NONE, "deleted": True}, "main", False),
        ({"ref": "refs/heads/main", "after": NONE}, "main", False),
        ({"ref": None}, "main", True),
    ],
)
def test_other_pushes(pushed: dict[str, Any], ref: str, expected: bool) -> None:
    assert wanted(read({**GITHUB, **pushed}), ref)[0] is expected


def test_a_sender_that_says_nothing_concerns_every_ref() -> None:
    for body in (b"", b"  \n", b"{}"):
        assert wanted(parse(body, ""), "main") == (True, None)


def test_a_hash_that_is_none_is_not_passed_on() -> None:
    assert wanted(read({"ref": "refs/heads/main", "after": "--upload-pack=x"}), "main") == (True, None)


def test_a_form_holds_the_same_as_payload() -> None:
    body = urlencode({"payload": json.dumps({**GITHUB, "text": "ä+&="})}).encode()
    assert parse(body, "application/x-www-form-urlencoded; charset=utf-8") == read(GITHUB)


def test_json_that_curl_calls_a_form_is_json() -> None:
    assert parse(json.dumps(GITHUB).encode(), "application/x-www-form-urlencoded") == read(GITHUB)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{", "application/json"),
        (b"[]", ""),
        (b'{"ref": 5}', ""),
        (b'{"ref": "\xff"}', ""),
        (b"[" * 100_000, ""),
        (b'{"commits": ' + b"[" * 100_000, ""),
        (b"other=1", "application/x-www-form-urlencoded"),
        (b"payload={", "application/x-www-form-urlencoded"),
        (b"a=1&" * 1000, "application/x-www-form-urlencoded"),
        ("payload=ä".encode(), "application/x-www-form-urlencoded"),
    ],
)
def test_a_payload_that_is_none_is_said_so(body: bytes, kind: str) -> None:
    with pytest.raises(MalformedPayload):
        parse(body, kind)


@given(st.binary(max_size=200), st.sampled_from(["application/json", "application/x-www-form-urlencoded"]))
def test_no_bytes_do_worse_than_that(body: bytes, kind: str) -> None:
    with contextlib.suppress(MalformedPayload):
        parse(body, kind)


PROOFS = [
    {"x-hub-signature-256": f"sha256={SIGNED}"},
    {"x-hub-signature": f"sha256={SIGNED}"},
    {"x-hub-signature": "sha1=d3adb33f", "x-hub-signature-256": f"sha256={SIGNED}"},
    {"x-gitea-signature": SIGNED},
    {"x-gitea-signature": SIGNED.upper()},
    {"x-forgejo-signature": SIGNED},
    {"x-gitlab-token": SECRET},
    {"authorization": f"Bearer {SECRET}"},
    {"authorization": f"bearer  {SECRET}"},
]


@pytest.mark.parametrize("headers", PROOFS)
def test_who_knows_the_secret_is_believed(headers: dict[str, str]) -> None:
    assert promises(headers)
    assert proven(headers, BODY, SECRET)
    assert proven(headers, bytearray(BODY), SECRET)


@pytest.mark.parametrize("headers", PROOFS)
def test_who_knows_another_one_is_not(headers: dict[str, str]) -> None:
    assert not proven(headers, BODY, "another")
    assert not proven(headers, BODY, "")


@pytest.mark.parametrize("headers", PROOFS[:6])
def test_a_signature_is_of_one_body(headers: dict[str, str]) -> None:
    assert not proven(headers, BODY + b"\n", SECRET)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-hub-signature": "sha1=" + hmac.new(SECRET.encode(), BODY, hashlib.sha1).hexdigest()},
        {"x-hub-signature-256": SIGNED},
        {"x-gitea-signature": ""},
        {"authorization": SECRET},
        {"authorization": "Basic " + base64.b64encode(f"x:{SECRET}".encode()).decode()},
    ],
)
def test_what_proves_nothing_is_known_before_the_body(headers: dict[str, str]) -> None:
    assert not promises(headers)
    assert not proven(headers, BODY, SECRET)


@pytest.mark.parametrize(
    "headers",
    [{"x-gitlab-token": ""}, {"authorization": "Bearer "}, {"x-gitea-signature": "ä"}, {"x-gitlab-token": "ä"}],
)
def test_an_empty_secret_is_proven_by_nothing(headers: dict[str, str]) -> None:
    assert not proven(headers, b"", "")
    assert not proven(headers, b"", SECRET)


def test_a_secret_that_is_not_ascii_is_compared_by_its_bytes() -> None:
    sent = "pässword".encode().decode("latin-1")
    assert proven({"x-gitlab-token": sent}, b"", "pässword")


def test_the_signature_is_openssls() -> None:
    done = subprocess.run(["openssl", "dgst", "-sha256", "-hmac", SECRET, "-r"], input=BODY, capture_output=True)
    assert proven({"x-gitea-signature": done.stdout.split()[0].decode()}, BODY, SECRET)


@pytest.mark.parametrize(
    ("headers", "ping", "push"),
    [
        ({}, False, True),
        ({"x-github-event": "push"}, False, True),
        ({"x-github-event": "ping"}, True, False),
        ({"x-github-event": "issues"}, False, False),
        ({"x-gitea-event": "push"}, False, True),
        ({"x-forgejo-event": "create"}, False, False),
        ({"x-gitlab-event": "Push Hook"}, False, True),
        ({"x-gitlab-event": "Tag Push Hook"}, False, True),
        ({"x-gitlab-event": "System Hook"}, False, True),
        ({"x-gitlab-event": "Note Hook"}, False, False),
        ({"x-event-key": "repo:push"}, False, True),
        ({"x-event-key": "repo:refs_changed"}, False, True),
        ({"x-event-key": "diagnostics:ping"}, True, False),
        ({"x-event-key": "pullrequest:created"}, False, False),
    ],
)
def test_events_are_told_apart_by_the_headers(headers: dict[str, str], ping: bool, push: bool) -> None:
    found = payloads.event(headers)
    assert (found.ping, found.push) == (ping, push)
