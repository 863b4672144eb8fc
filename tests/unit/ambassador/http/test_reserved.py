"""What a listener has a say in."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from sidecars.ambassador.http.reserved import of_answers, of_requests
from sidecars.ambassador.http.settings import Http
from sidecars.core.units import Secret

JWT = {"jwks": "https://issuer.test/keys", "claim_headers": [{"claim": "sub", "header": "X-User"}]}


def kept(names: list[bytes], http: dict[str, Any], made: Any = of_requests) -> list[bytes]:
    reserved = made(msgspec.convert(http, Http))
    return [name for name, _ in reserved.trailing([(name, b"1") for name in names])]


@pytest.mark.parametrize(
    ("http", "name"),
    [
        ({}, b"X-Request-ID"),
        ({"request_id": "X-Trace"}, b"x-trace"),
        ({"headers": [{"name": "X-Tenant", "matches": "a"}]}, b"X-TENANT"),
        ({"headers": [{"name": "X-Admin", "forbidden": True}]}, b"X_Admin"),
        ({"rate_limit": {"rate": 1, "key": "header:X-Shop"}}, b"X-Shop"),
        ({"auth": {"jwt": JWT}}, b"X_User"),
        ({"auth": {"api_keys": {"keys": Secret("a"), "header": "X-Shop-Key"}}}, b"X-Shop-Key"),
        ({"request": {"remove": ["X-Secret-*"]}}, b"X_Secret_Key"),
        ({"request": {"set": [{"name": "X-Zone", "value": "a"}]}}, b"X-Zone"),
        ({"request": {"rewrite": [{"name": "X-Way", "matches": "a", "to": "b"}]}}, b"X-Way"),
    ],
)
def test_what_rules_and_changes_have_a_say_in_is_for_heads_only(http, name):
    assert kept([b"X-Sum", name], http) == [b"X-Sum"]


def test_what_is_changed_in_answers_is_for_their_heads_only():
    assert kept([b"X-Sum", b"Server-Timing"], {"response": {"remove": ["server-timing"]}}, of_answers) == [b"X-Sum"]
