"""fluentd's patterns for tags."""

from __future__ import annotations

import pytest

from sidecars.core.errors import WrongSettings
from sidecars.shipper.fluentd.tags import literal, patterns


# Compared with fluentd's own match.rb.
@pytest.mark.parametrize(
    ("argument", "taken", "left"),
    [
        ("a", ["a"], ["b", "a.b", "ab", ""]),
        ("a.b", ["a.b"], ["a", "axb", "a.b.c"]),
        ("a.*", ["a.b", "a."], ["a", "a.b.c", "b.a"]),
        ("*", ["a", "a-b"], ["a.b"]),
        ("*.b", ["a.b", ".b"], ["b", "a.a.b"]),
        ("**", ["a", "a.b", "a.b.c", ""], []),
        ("", ["a", "a.b"], []),
        ("a.**", ["a", "a.b", "a.b.c"], ["ab", "b.a"]),
        ("a**", ["a", "ab", "a.b"], ["b"]),
        ("**.b", ["b", "a.b", "a.a.b"], ["ab", "b.a"]),
        ("a.**.c", ["a.c", "a.b.c", "a.b.b.c"], ["ac", "a.b", "ab.c"]),
        ("{a,b}", ["a", "b"], ["c", "a,b"]),
        ("a.{b,c}.*", ["a.b.x", "a.c.x"], ["a.b", "a.d.x"]),
        ("a.{b,c.**}", ["a.b", "a.c", "a.c.d"], ["a.b.d"]),
        ("{a,b.{c,d}}", ["a", "b.c", "b.d"], ["b", "c"]),
        ("a b.*", ["a", "b.c"], ["b", "a b.c"]),
        ("count.format1  count.format2", ["count.format1", "count.format2"], ["count.format3"]),
        ("a+b", ["a+b"], ["aab"]),
        (r"a\*", ["a*"], ["ab"]),
        (r"/a\.(?!b).*/", ["a.c", "a.x.y"], ["a.b", "xa.c"]),
        ("kube.var.log.*.log", ["kube.var.log.*.log"], ["kube.var.log.x.y.log"]),
    ],
)
def test_a_pattern_takes_the_tags_that_fluentd_takes(argument: str, taken: list[str], left: list[str]) -> None:
    matches = patterns(argument)
    assert {tag: matches(tag) for tag in (*taken, *left)} == dict.fromkeys(taken, True) | dict.fromkeys(left, False)


@pytest.mark.parametrize("argument", ["/a", "/", "/(a/"])
def test_a_broken_expression_is_refused(argument: str) -> None:
    with pytest.raises(WrongSettings):
        patterns(argument)


@pytest.mark.parametrize(
    ("pattern", "begin"), [("a.b", "a.b"), ("a.b.**", "a.b"), ("a.b**", "a.b"), ("**", ""), ("{a,b}", ""), ("/a/", "")]
)
def test_the_beginning_of_every_tag_of_a_pattern_is_known(pattern: str, begin: str) -> None:
    assert literal(pattern) == begin
