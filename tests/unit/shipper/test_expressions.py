import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecars.core.errors import WrongSettings
from sidecars.core.follow.join import records
from sidecars.shipper.expressions import compiled, first_line


def named(expression, text):
    """Give what the named groups match, as Ruby's MatchData would."""
    found = expression.pattern.search(text)
    pairs = zip(expression.names, found.groups(), strict=True) if found else ()
    return {name: value for name, value in pairs if value is not None} if found else None


# What Ruby 3.1 gives for these was asked of it.
@pytest.mark.parametrize(
    ("expression", "text", "fields"),
    [
        ("/^(?<time>[^ ]*) (?<rest>.*)$/", "12:00 all of it", {"time": "12:00", "rest": "all of it"}),
        ("^(?<a>x)(?<b>y)?", "x", {"a": "x"}),
        ("^(?P<a>x)", "x", {"a": "x"}),
        ("(?'a'x)", "x", {"a": "x"}),
        ("/(?<XFF-host>[^ ]*)/", "h", {"XFF-host": "h"}),
        ("/(a)(?<x>b)(c)/", "abc", {"x": "b"}),
        ("/(?<x>a)|(?<x>b)/", "b", {"x": "b"}),
        (r"/(?<x>[ab])-\k<x>/", "a-b b-b", {"x": "b"}),
        (r"/(?<x>\h+)/", "zzBEEFg", {"x": "BEEF"}),
        (r"/(?<x>\H+)/", "abzz1", {"x": "zz"}),
        (r"/(?<x>[^\H1]+)/", "z1fe", {"x": "fe"}),
        ("/(?<x>[[:alpha:]_]+)/", "1a_b2", {"x": "a_b"}),
        ("/(?<x>[[:^digit:]]+)/", "12ab3", {"x": "ab"}),
        (r"/(?<x>\p{Upper}\P{Digit}+)/", "aBcd1", {"x": "Bcd"}),
        ("/(?<x>[a[bc]]+)/", "zabcd", {"x": "abc"}),
        (r"/(?<x>[]\-a&~|]+)/", "z]-a&~|z", {"x": "]-a&~|"}),
        ("/(?<x>[+--]+)/", "*+,-.", {"x": "+,-"}),
        (r"/\A(?<x>a.c)\z/m", "a\nc", {"x": "a\nc"}),
        (r"/\A(?<x>a.c)\z/", "a\nc", None),
        (r"/(?<x>a)\Z/", "a\n", {"x": "a"}),
        (r"/(?<x>a)\z/", "a\n", None),
        ("/^(?<x>b)$/", "a\nb\nc", {"x": "b"}),
        ("/(?<x>ABC)/i", "abc", {"x": "abc"}),
        ("/(?<x> a b # not this \n c )/x", "abc", {"x": "abc"}),
        (r"/(?<x>a\ [ ]b)/x", "a  b", {"x": "a  b"}),
        ("/(?<x>a(?i)b|c)/", "aC", {"x": "aC"}),
        ("/(?<x>a(?i)b|c)/", "C", None),
        ("/(?<x>(?i:a)b)/", "Ab AB", {"x": "Ab"}),
        ("/(?<x>(?m:a.)b.)/", "a\nbc", {"x": "a\nbc"}),
        ("/(?<x>(?-i:a)b)/i", "AB aB", {"x": "aB"}),
        ("/(?<x>a(?#what is this)b)/", "ab", {"x": "ab"}),
        ("/(?<x>a++b)/", "aab", {"x": "aab"}),
        ("/(?<x>a++a)/", "aaa", None),
        ("/(?<x>(?>a+)a)/", "aaa", None),
        ("/(?<x>a{1,2}+)/", "aaaaa", {"x": "aaaaa"}),
        ("/(?<x>a{2}?)b/", "ab", {"x": ""}),
        ("/(?<x>a{,2})b/", "aaab", {"x": "aa"}),
        (r"/(?<x>\{a{b}c})/", "{a{b}c}", {"x": "{a{b}c}"}),
        (r'/(?<x>\/[\/"]\"\<)/', '//"<', {"x": '//"<'}),
        (r"/(?<x>\x41\u0042\u{43}\e\t)/", "ABC\x1b\t", {"x": "ABC\x1b\t"}),
        (r"/(?<x>\xC3\xA9+)/", "éé", {"x": "éé"}),
        (r"/(?<x>\R)/", "a\r\nb", {"x": "\r\n"}),
        (r"/(?<x>\w+)/", "éab", {"x": "ab"}),
        (r"/(?<x>\Ba)/", "a ba", {"x": "a"}),
        ("/(?<x>日本)/", "日本語", {"x": "日本"}),
    ],
)
def test_an_expression_matches_what_it_matches_in_ruby(expression, text, fields):
    assert named(compiled(expression), text) == fields


def test_groups_without_names_are_referred_to_by_number_where_none_has_a_name():
    assert compiled(r"/(a|b)\1/").pattern.search("ab bb")[0] == "bb"


@pytest.mark.parametrize(
    ("expression", "place"),
    [
        (r"/(?<x>a)\g<x>/", r"\\g is not known, at character 9"),
        ("/[a-z&&[^x]]/", "intersection of classes, &&, is not known; use a lookahead, at character 6"),
        ("/[a[^b]]/", "negated class within a class is not known, at character 4"),
        ("/(?~ab)(?<x>c)/", "groups that begin with .* are not known, at character 2"),
        (r"/(?<x>a)\1/", r"by number; use .k<name>, at character 9"),
        (r"/\k<x>(?<x>a)/", "no group before it is called x, at character 2"),
        (r"/\p{Greek}/", "Greek. is not known; use one of alnum .*, at character 2"),
        ("/(?<x>a/", "a group is not closed"),
        ("/(?<x>a))/", r"a \) closes no group, at character 9"),
        ("/[a/", r"a \[ is not closed, at character 2"),
        ("/a|*/", "there is nothing to repeat, at character 4"),
        ("/(?<x>(?<=a+)b)/", "look-behind requires fixed-width"),
        ("a\\", "is the last character"),
        (r"/\xff/", "not UTF-8, at character 2"),
        ("/no end", "begins with a slash, but does not end in one"),
    ],
)
def test_what_python_cannot_say_is_refused_with_its_place(expression, place):
    with pytest.raises(WrongSettings, match=place):
        compiled(expression)


@given(st.text(alphabet=r"abc0(?<>x:=!)[]^-&\hHdWkpRzZ{},1|*+?.$# /'im" + "é"))
def test_any_text_is_translated_or_refused(text):
    for translate in (compiled, first_line):
        try:
            translate(text)
        except WrongSettings as error:
            assert repr(text) in str(error)


@given(st.text().filter(lambda text: not text.startswith("/")))
def test_a_literal_matches_itself(text):
    assert compiled(f"/{re.escape(text)}/").pattern.fullmatch(text)


@pytest.mark.parametrize(
    "expression",
    [
        r"/^\d{4}-\d{1,2}/",
        r"/\d{4}/",
        r"/\A\d/",
        r"/^\d|^start/",
        "/[[:digit:]]+-/",
        r"/[^\p{Alpha} ]/",
        r"/\S\s+\S+\s+\W+\s*$/",
        r"/(?m:^2.*[^x])/m",
        r"/\d{4}.*(é|é)+$/",
        r"/(?i)^\d{4}-08-01t?/",
        r"/20\d\d-08-01 \h/i",
    ],
)
def test_a_first_line_is_found_by_the_follower_wherever_ruby_finds_it(expression):
    first = "2026-08-01 10:00 é\n".encode()
    data = first + b"  at x\n  at y\n" + first
    assert list(records(first_line(expression)).split(data)) == [first + b"  at x\n  at y\n", first]
