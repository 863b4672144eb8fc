from __future__ import annotations

import pytest

from sidecars.core.errors import WrongSettings
from sidecars.shipper.fluentd.arguments import translated

CONF = "--fluentd-config=/a.conf"


@pytest.mark.parametrize(
    ("words", "variable", "expected"),
    [
        (["-c", "/a.conf"], "", [CONF]),
        (["--check", "-c", "/a.conf"], "", ["--check", CONF]),
        ([], "-c /a.conf", [CONF]),
        ([], "--config=/a.conf -q", [CONF, "--log-level=warning"]),
        ([], "-c '/a b.conf' -vv --no-supervisor", ["--fluentd-config=/a b.conf", "--log-level=debug"]),
        (["--check"], "--config /a.conf --dry-run", [CONF, "--check-config", "--check"]),
    ],
)
def test_fluentd_s_flags_become_ours(words: list[str], variable: str, expected: list[str]) -> None:
    assert translated(words, variable) == expected


@pytest.mark.parametrize(
    ("words", "variable", "message"),
    [
        (["-c"], "", "-c has no value"),
        ([], "-c", "-c has no value"),
        ([], "--colour", "'--colour', which s3-shipper does not know"),
        ([], "-p /plugins", "-p '/plugins', which has no meaning here"),
        ([], "-c 'a", "close the quotes"),
    ],
)
def test_what_means_nothing_here_is_refused(words: list[str], variable: str, message: str) -> None:
    with pytest.raises(WrongSettings, match=message):
        translated(words, variable)
