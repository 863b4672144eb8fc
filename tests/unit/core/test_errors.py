"""Secrets stay out of what is said, and exit codes are those of the contract."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from sidecars.core.errors import Impossible, SidecarError, TimedOut, Transient, WrongSettings, redacted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cannot reach https://bot:hunter2@git.example/app", "cannot reach https://***@git.example/app"),
        ("https://token@git.example", "https://***@git.example"),
        ("redis://:p@ss@cache:6379/0", "redis://***@cache:6379/0"),
        ("https://bot:pa/ss@git.example/app", "https://***@git.example/app"),
        ("https://bot:1/a@git.example/app", "https://bot:1/a@git.example/app"),  # a port and a path, or else a password
        ("from ssh://git@a/x to https://u:p@b/y.", "from ssh://***@a/x to https://***@b/y."),
        ("https://git.example/@scope/package", "https://git.example/@scope/package"),
        ("https://git.example:8443/a@b", "https://git.example:8443/a@b"),
        ("forward://fluentd:24224?tag=a@b", "forward://fluentd:24224?tag=a@b"),
        ("mail someone@example.org", "mail someone@example.org"),
        ("", ""),
    ],
)
def test_userinfo_of_urls_is_replaced(text: str, shown: str) -> None:
    assert redacted(text) == shown


@given(
    user=some.from_regex(r"[a-z]{1,8}", fullmatch=True),
    password=some.from_regex(r"[a-zA-Z@:!$.-]{1,20}", fullmatch=True),
)
def test_no_password_is_left(user: str, password: str) -> None:
    assert redacted(f"x https://{user}:{password}@host/path y") == "x https://***@host/path y"


@given(some.text())
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    assert redacted(redacted(text)) == redacted(text)


def test_exit_codes() -> None:
    codes = {
        kind.__name__: kind("why").exit_code for kind in (SidecarError, WrongSettings, Transient, TimedOut, Impossible)
    }
    assert codes == {"SidecarError": 1, "WrongSettings": 2, "Transient": 1, "TimedOut": 124, "Impossible": 125}
