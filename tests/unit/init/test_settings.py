from __future__ import annotations

from pathlib import Path

import pytest

from sidecars.core.errors import WrongSettings
from sidecars.core.settings import load
from sidecars.init import healthcheck, waiting

WRONG = [
    ("", "there is nothing to wait for"),
    ("tcpp://a:1", "unknown scheme 'tcpp'; did you mean tcp?"),
    ("a:1 --any --quorum 1", "keep one"),
    ("a:1 --all --any", "keep one"),
    ("a:1 --quorum 2", "expected 1 to 1"),
    ("a:1 --quorum 0", "expected 1 to 1"),
    ("a:1 --timeout 0", "--timeout is 0s, expected 10ms or more"),
    ("a:1 --timeout off", "--timeout is 'off', expected seconds"),
    ("a:1 --consecutive 0", "expected 1 or more"),
    ("a:1 --tiemout 3", "did you mean --timeout?"),
    ("redis://:s3cret@cache", "holds a password in a URL"),
    ("cmd:no-such-program", "'no-such-program', which is not in this image"),
    ("grpc://a:1?ca=/x", "write grpcs://"),
    ("http://a/?status=many", "expected a list such as"),
    ("http://a/?json", "expected a path"),
    ("http://a/x\xe9", "escape it by %XX"),
]


def wait(*arguments: str, environ: dict[str, str] | None = None) -> waiting.Settings:
    return load(waiting.Settings, prog=waiting.PROG, prefix=waiting.PREFIX, argv=arguments, environ=environ or {})


@pytest.mark.parametrize(("line", "words"), WRONG)
def test_wrong_settings_say_what_to_do(line: str, words: str) -> None:
    with pytest.raises(WrongSettings) as refused:
        wait(*line.split())
    assert words in str(refused.value)
    assert "s3cret" not in str(refused.value)


def test_enough_is_all_targets_unless_fewer_are_asked_for() -> None:
    needed = [wait("a:1", "b:1", "c:1", *how.split()).needed() for how in ("", "--all", "--any", "--quorum 2")]
    assert needed == [3, 3, 1, 2]


def test_the_longest_pause_is_never_shorter_than_the_first() -> None:
    pace = wait("a:1", "--interval", "1m").pace()
    assert (pace.interval, pace.longest) == (60, 60)


def test_targets_come_by_the_variable_or_the_config_file(tmp_path: Path) -> None:
    assert wait(environ={"INIT_TARGETS": "a:1, redis://:pw@b"}).targets == ("a:1", "redis://:pw@b")
    (tmp_path / "wait.yaml").write_text("targets: ['http://a/?body=x{1,2}']\nany: true\n")
    read = wait("--config", str(tmp_path / "wait.yaml"))
    assert (read.targets, read.any_) == (("http://a/?body=x{1,2}",), True)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "nothing to look at"), ("a:1 --any --quorum 1", "keep one"), ("a:1 --quorum 2", "expected 1 to 1"),
        ("a:1 --patience 0", "expected 10ms or more"), ("file:///x?newer=start", "use pod-init wait"),
        ("file:///x?stable=2s", "use pod-init wait"),
    ],
)  # fmt: skip
def test_a_health_check_that_cannot_be_says_why(line: str, words: str) -> None:
    with pytest.raises(WrongSettings, match=words):
        load(healthcheck.Settings, prog=healthcheck.PROG, prefix="INIT_", argv=line.split(), environ={})
