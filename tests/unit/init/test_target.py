from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecars.core.errors import WrongSettings
from sidecars.init.target import parse

READ: list[tuple[str, dict[str, Any]]] = [
    ("tcp://db:5432", {"scheme": "tcp", "host": "db", "port": 5432}),
    ("db:5432", {"scheme": "tcp", "host": "db", "port": 5432, "text": "db:5432"}),
    ("[::1]:80", {"scheme": "tcp", "host": "::1", "port": 80}),
    ("tcp://[fe80::1%eth0]:80", {"host": "fe80::1%eth0"}),
    ("TCP://db:1?patience=2s", {"scheme": "tcp", "options": {"patience": "2s"}}),
    ("not:db:5432", {"negated": True, "host": "db", "text": "not:db:5432"}),
    (" dns://redis.cache?answers=3&type=A ", {"host": "redis.cache", "options": {"answers": "3", "type": "A"}}),
    ("dns://b\xfccher.example", {"host": "xn--bcher-kva.example"}),
    ("http://web", {"port": 80, "path": "/"}),
    ("https://web", {"port": 443}),
    ("http://web:81/a%20b?x=1&status=204&y=a%26b", {"path": "/a%20b?x=1&y=a%26b", "options": {"status": "204"}}),
    ("http://web/?status=open&method=x#status=3xx", {"path": "/?status=open&method=x", "options": {"status": "3xx"}}),
    ("http://web/?body=a%26b%20c", {"options": {"body": "a&b c"}}),
    ("http://web?x", {"path": "/?x"}),
    ("http://me:s3%40cret@web", {"user": "me", "host": "web"}),
    ("file:///run/ready?nonempty&stable=2s", {"path": "/run/ready", "options": {"nonempty": "", "stable": "2s"}}),
    ("file:run/a%3Fb", {"path": "run/a?b"}),
    ("unix:///run/x.sock", {"scheme": "unix", "path": "/run/x.sock"}),
    ("cmd:grep -q 'a?b' /x:y", {"scheme": "cmd", "path": "grep -q 'a?b' /x:y", "options": {}}),
    ("cmd?exit=3:false", {"path": "false", "options": {"exit": "3"}}),
    ("not:cmd:true", {"negated": True, "path": "true"}),
    ("grpc://web:50051/my.Service", {"path": "/my.Service"}),
]

REFUSED = [
    ("", "is empty; was it written with a variable"),
    ("not:", "is empty"),
    ("tcpp://a:1", "unknown scheme 'tcpp'; did you mean tcp?"),
    ("redis", "write dns://redis for the name, or tcp://redis:PORT"),
    ("/run/ready", "for a file write file:///run/ready"),
    ("::1:80", "IPv6 address in brackets"),
    ("tcp://::1:80", "IPv6 address in brackets"),
    ("tcp:db:80", "SCHEME://HOST:PORT"),
    ("tcp://:80", "no host; was it written with a variable"),
    (":80", "no host; was it written with a variable"),
    ("dns://", "no host"),
    ("tcp://db", "has no port"),
    ("tcp://db:", "empty port; was it written with a variable"),
    ("db:70000", "port 70000, expected 1 to 65535"),
    ("db:0", "port 0"),
    ("dns://db:53", "has a port, but a name has none"),
    ("tcp://db:1?pateince=2s", "unknown option 'pateince'; did you mean patience?"),
    ("tcp://db:1?patience=soon", "patience of tcp://db:1?patience=soon is 'soon', expected seconds"),
    ("tcp://db:1?patience=1&patience=2", "has patience twice"),
    ("http://web/?stauts=200", "did you mean status? (to send it, write the check's options after a #)"),
    ("file://run/ready", "is a relative path; write file:///run/ready"),
    ("file://", "names nothing"),
    ("file:///?nonempty", "names nothing"),
    ("cmd:", "names no command"),
    ("not:not:db:1", "unknown scheme 'not'"),
]


@pytest.mark.parametrize(("text", "expected"), READ)
def test_a_target_is_read(text: str, expected: dict[str, Any]) -> None:
    target = parse(text)
    assert {name: getattr(target, name) for name in expected} == expected


@pytest.mark.parametrize(("text", "words"), REFUSED)
def test_what_is_no_target_is_refused_with_advice(text: str, words: str) -> None:
    with pytest.raises(WrongSettings) as refused:
        parse(text)
    assert words in str(refused.value)


def test_a_password_is_kept_and_not_shown() -> None:
    target = parse("redis://app:s3%40cret@cache")
    assert target.password is not None
    assert target.password.reveal() == "s3@cret"
    assert target.text == "redis://***@cache"
    assert "s3" not in repr(target)


def test_a_password_comes_from_a_file(tmp_path: Any) -> None:
    (tmp_path / "password").write_text("s3cret\n")
    target = parse(f"http://web/?user=me&password_file={tmp_path}/password")
    assert target.password is not None
    assert (target.user, target.password.reveal(), target.path) == ("me", "s3cret", "/")


@pytest.mark.parametrize("name", ["token", "api_key", "X-Amz-Signature", "client_secret"])
def test_a_parameter_that_sounds_secret_is_sent_and_not_shown(name: str) -> None:
    target = parse(f"http://web/?{name}=abcdef&x=1")
    assert target.path == f"/?{name}=abcdef&x=1"
    assert target.text == f"http://web/?{name}=***&x=1"


@settings(deadline=None)
@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=60) | st.from_regex(r"(not:)?[a-z]{2,5}:(//)?.{0,40}"))
def test_any_text_is_a_target_or_refused(text: str) -> None:
    try:
        target = parse(text)
    except WrongSettings:
        return
    assert target.host or target.path


@settings(deadline=None)
@given(st.text("abc@/:?#%[]&= ", max_size=20))
def test_a_password_is_never_in_the_text(noise: str) -> None:
    secret = f"{noise}hunter2"
    try:
        assert "hunter2" not in parse(f"redis://me:{secret}@cache").text
    except WrongSettings as refused:
        assert "hunter2" not in str(refused)
