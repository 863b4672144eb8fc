from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecars.ambassador.http.paths import Allowed, BadPath, normal, pattern

NORMAL = {
    b"/": b"/",
    b"*": b"*",
    b"/a/b": b"/a/b",
    b"/a/b/": b"/a/b/",
    b"/a/./b": b"/a/b",
    b"/a/../b": b"/b",
    b"/a/..": b"/",
    b"/a/b/..": b"/a/",
    b"/a/.": b"/a/",
    b"/a/%2e%2E/b": b"/b",
    b"/%61%7E%2d": b"/a~-",
    b"/%c3%a9": b"/%C3%A9",
    b"/\xc3\xa9": b"/%C3%A9",
    b"/a%20b": b"/a%20b",
    b"/a b": b"/a%20b",
    b"/.well-known/jwks.json": b"/.well-known/jwks.json",
    b"/...": b"/...",
    b"/a..b/..c": b"/a..b/..c",
    b"/a;v=1/b": b"/a;v=1/b",
    b"/public;/../admin": b"/admin",
    b"/100%25": b"/100%25",
}

BAD = [
    b"", b"a", b"http://a/", b"//", b"//a", b"/a//b", b"/..", b"/a/../..", b"/%2e%2e", b"/a/%2e%2e/%2e%2e/b",
    b"/a%2fb", b"/a%2Fb", b"/a%5cb", b"/a\\b", b"/a%00", b"/a%0d%0a", b"/a%7f", b"/%", b"/%4", b"/%zz", b"/a#b",
    b"/a/..;/b", b"/a/.;x/b", b"/;/admin", b"/a/..;", b"/%252e%252e/a", b"/a%252fb", b"/a%255cb", b"/a%2500",
]  # fmt: skip


@pytest.mark.parametrize(("path", "wanted"), NORMAL.items())
def test_a_path_has_one_form(path: bytes, wanted: bytes) -> None:
    assert normal(path) == wanted


@pytest.mark.parametrize("path", BAD)
def test_a_path_that_may_mean_two_things_is_refused(path: bytes) -> None:
    with pytest.raises(BadPath):
        normal(path)


PIECES = st.sampled_from(
    [
        b"/",
        b"//",
        b".",
        b"..",
        b"%2e",
        b"%2E%2e",
        b"%2f",
        b"%5c",
        b"\\",
        b";",
        b"%00",
        b"%25",
        b"2f",
        b"a",
        b"%61",
        b"\xe9",
        b"%",
    ]
)


@given(st.lists(PIECES, max_size=12).map(lambda pieces: b"/" + b"".join(pieces)))
def test_a_normal_path_is_its_own_normal_form_and_hides_nothing(path: bytes) -> None:
    try:
        wanted = normal(path)
    except BadPath:
        return
    assert normal(wanted) == wanted
    assert wanted.startswith(b"/")
    segments = wanted.split(b"/")
    assert b"" not in segments[1:-1]
    assert not {b".", b".."} & set(segments)
    assert not re.search(rb"%2[eEfF]|%5[cC]|%0|\\|[^\x21-\x7e]", wanted)


@pytest.mark.parametrize(
    ("text", "path", "fits"),
    [
        ("/v1/items", b"/v1/items", True),
        ("/v1/items", b"/v1/items/", False),
        ("/v1/items", b"/V1/items", False),
        ("/v1/*", b"/v1/a", True),
        ("/v1/*", b"/v1/", False),
        ("/v1/*", b"/v1/a/b", False),
        ("/v1/*/b", b"/v1/a/b", True),
        ("/img/*.png", b"/img/a.png", True),
        ("/img/*.png", b"/img/.png", True),
        ("/img/*.png", b"/img/a/b.png", False),
        ("/v1/**", b"/v1/a/b/", True),
        ("/v1/**", b"/v1", True),
        ("/v1/**", b"/v12", False),
        ("/**", b"/", True),
        ("/**", b"*", False),
        ("/", b"/", True),
        ("/", b"/a", False),
        ("/a.c", b"/abc", False),
        ("/caf\u00e9", b"/caf%C3%A9", True),
    ],
)  # fmt: skip
def test_a_pattern_fits(text: str, path: bytes, fits: bool) -> None:
    assert Allowed([text, "/other"]).permits(path) is fits


@pytest.mark.parametrize("text", ["", "v1", "/a/**/b", "/a?b", "/a//b", "/../a", "/a**"])
def test_a_pattern_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"begins|has|does|goes"):
        pattern(text)
