"""How long an OTLP receiver is left alone."""

from __future__ import annotations

import time

import pytest

from sidecars.adapter.deliver.otlp import pause_of


@pytest.mark.parametrize(
    ("retry_after", "pause"),
    [
        (None, None),
        ("", None),
        ("3", 3),
        ("0", 0.2),
        ("99999999999", 300),
        ("9" * 400, 300),
        ("-1", None),
        ("soon", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.2),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 300),
        ("²", None),
    ],
)
def test_retry_after_is_read_within_reason(retry_after, pause):
    assert pause_of(retry_after) == pause


def test_a_date_is_counted_from_now():
    soon = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 60))
    assert 55 < pause_of(soon) <= 60
