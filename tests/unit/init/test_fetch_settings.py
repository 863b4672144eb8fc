from __future__ import annotations

import pytest

from sidecars.core.errors import WrongSettings
from sidecars.core.settings import load
from sidecars.init import fetching
from sidecars.init.sources import git, s3

DIGEST, OTHER = "a" * 64, "b" * 64
WRONG = [
    ("", "needs URI and DEST, and got 0"),
    ("http://h/x", "and got 1"),
    ("htp://h/x /d", "did you mean http?"),
    ("/a/b /d", "begins with no known scheme"),
    ("http://:s3cret@h/x /d", "holds a password in a URL"),
    ("http://h/x /d --sha256 abc", "expected 64 hexadecimal digits"),
    (f"http://h/x?sha256={DIGEST}1 /d", "expected 64 hexadecimal digits"),
    (f"http://h/x?sha256={DIGEST} /d --sha256 {OTHER}", "are different"),
    ("http://h/x /d --mode rw", "--mode is 'rw', expected permissions in octal"),
    ("http://h/x /d --jobs 0", "--jobs is 0, expected 1 to 64"),
    ("http://h/x /d --retries -1", "--retries is -1, expected 0 to 1000"),
    ("http://h/x /d --max-ratio 0", "--max-ratio is 0"),
    ("http://h/x /d --piece 10", "expected 1KiB or more"),
    ("http://h/x /d --unsafe maybe", "expected refuse or skip"),
    ("http://h/x /d --cert-key k", "give both"),
    ("http://h/x /d --password s3cret", "would show the secret"),
    ("file:///x /d --sha256-url http://h/s", "is for http and https"),
    (f"git+https://h/r /d --sha256 {DIGEST}", "git has no use for a SHA-256"),
    ("git+https://h/r /d --extract", "path= in the URI names a directory"),
]


def read(line: str) -> fetching.Settings:
    return load(fetching.Settings, prog="pod-init fetch", prefix="INIT_", argv=line.split(), environ={})


@pytest.mark.parametrize(("line", "words"), WRONG)
def test_wrong_settings_say_what_to_do(line: str, words: str) -> None:
    with pytest.raises(WrongSettings) as refused:
        read(line)
    assert words in str(refused.value)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("uri", "rest", "digests"),
    [
        ("http://h/x", "http://h/x", []),
        ("http://h/x#f", "http://h/x", []),
        (f"http://h/x?sha256={DIGEST}", "http://h/x", [DIGEST]),
        (f"http://h/x?a=%20&sha256={DIGEST}&b=c%26d&a", "http://h/x?a=%20&b=c%26d&a", [DIGEST]),
        (f"http://h/x?md5sha256={DIGEST}", f"http://h/x?md5sha256={DIGEST}", []),
    ],
)
def test_the_digest_is_taken_out_of_the_uri(uri: str, rest: str, digests: list[str]) -> None:
    settings = read(f"{uri} /d")
    assert (settings.without_digest(), settings.digests()) == (rest, digests)


@pytest.mark.parametrize(
    ("uri", "read"),
    [
        ("s3://b/k/x%20y", s3.Address("b", "k/x y")),
        ("s3://b/k/", s3.Address("b", "k/")),
        ("s3://b", s3.Address("b", "")),
    ],
)
def test_an_address_in_s3_is_read(uri: str, read: s3.Address) -> None:
    assert s3.address(uri) == read


@pytest.mark.parametrize(
    ("uri", "read"),
    [
        ("git+https://h/r.git", git.Address("https://h/r.git", "", "")),
        ("git+https://h/r?ref=v1%2B2+3&path=/a//b/", git.Address("https://h/r", "v1+2+3", "a/b")),
        ("git+ssh://git@h:22/r?ref=feature/x", git.Address("ssh://git@h:22/r", "feature/x", "")),
    ],
)
def test_an_address_of_git_is_read(uri: str, read: git.Address) -> None:
    assert git.address(uri) == read
