"""Who may read."""

from __future__ import annotations

import base64

import pytest

from sidecars.adapter.settings import Settings
from sidecars.adapter.web.guard import Guard, check_origin
from sidecars.adapter.web.refusal import Refusal
from sidecars.core.errors import WrongSettings
from sidecars.core.units import Secret


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


BOTH = {"auth_user": "ada", "auth_password": Secret("s:cret"), "auth_token": Secret("tok")}


@pytest.mark.parametrize(
    "given",
    ["", "Basic", basic("ada"), basic("ada:"), basic("ada:S:cret"), basic("eve:s:cret"), "Basic ===", "Bearer",
     "Bearer x", basic("ada:tok"), "Bearer s:cret", "Digest tok", "Bearer \udcff"],
)  # fmt: skip
def test_who_knows_no_secret_is_asked_for_one(given):
    with pytest.raises(Refusal) as refused:
        Guard(Settings(**BOTH)).check({"Authorization": given})
    assert refused.value.status == 401
    assert refused.value.headers["WWW-Authenticate"] == 'Basic realm="logs", charset="UTF-8", Bearer realm="logs"'
    assert "cret" not in refused.value.reason


@pytest.mark.parametrize("given", [basic("ada:s:cret"), "Bearer tok", "bearer tok"])
def test_who_knows_one_gets_in(given):
    Guard(Settings(**BOTH)).check({"Authorization": given})


def test_a_secret_is_read_anew_when_its_file_changes(tmp_path):
    (tmp_path / "token").write_text("old\n")
    guard = Guard(Settings(auth_token=Secret(file=str(tmp_path / "token"))))
    guard.check({"Authorization": "Bearer old"})
    (tmp_path / "token").write_text("newer\n")
    guard.check({"Authorization": "Bearer newer"})
    with pytest.raises(Refusal):
        guard.check({"Authorization": "Bearer old"})


def test_an_empty_token_lets_nobody_in():
    with pytest.raises(Refusal):
        Guard(Settings(auth_token=Secret(""))).check({"Authorization": "Bearer "})


@pytest.mark.parametrize("given", [{"auth_user": "ada"}, {"auth_password": Secret("x")}])
def test_a_user_needs_a_password(given):
    with pytest.raises(WrongSettings, match="need each other"):
        Guard(Settings(**given))


def test_pages_of_other_origins_do_not_post():
    check_origin({"Host": "logs:3080"})
    check_origin({"Host": "logs:3080", "Origin": "http://logs:3080"})
    for origin in ("http://evil", "null", "http://logs:3081"):
        with pytest.raises(Refusal, match="other origins"):
            check_origin({"Host": "logs:3080", "Origin": origin})
