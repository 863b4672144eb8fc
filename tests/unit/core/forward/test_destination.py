"""The tag of what is sent."""

from __future__ import annotations

import os

import pytest

from sidecars.core.errors import WrongSettings
from sidecars.core.forward.destination import check_tag, tag_for


@pytest.mark.parametrize(("template", "found"), [("", "is empty"), ("a.{node}", "{node}"), ("{}", "{}")])
def test_a_tag_with_an_unknown_placeholder_is_refused(template, found):
    with pytest.raises(WrongSettings) as raised:
        check_tag(template)
    assert found in str(raised.value)


@pytest.mark.parametrize(
    ("template", "tag"),
    [
        ("app", "app"),
        ("app.{pod}.{namespace}.{file}", "app.web-0.shop.access.log"),
        ("{file}{file}", "access.logaccess.log"),
    ],
)
def test_a_tag_is_filled_in(template, tag):
    assert tag_for(template, path="/logs/access.log", pod="web-0", namespace="shop") == tag


def test_a_tag_is_text_whatever_the_file_is_called():
    assert tag_for("{file}", path=os.fsdecode(b"/logs/\xff{pod}.log"), pod=None, namespace=None) == "�{pod}.log"


def test_a_tag_that_needs_what_is_not_known_says_which_variable_to_set():
    with pytest.raises(WrongSettings, match="POD_NAMESPACE is not set"):
        tag_for("{namespace}", path="/a", pod="web-0", namespace=None)
