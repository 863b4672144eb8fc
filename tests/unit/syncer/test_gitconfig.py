from __future__ import annotations

import os
import stat
import subprocess

import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from sidecars.syncer.gitconfig import ConfigurationFile, Pair, WrongPairs, block, given, parse, rendered


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("", []),
        ("a.b:c", [("a.b", "c")]),
        ("a.b:c,d.e:f", [("a.b", "c"), ("d.e", "f")]),
        ("a.b:c,", [("a.b", "c")]),
        ('"a.b":"c"', [("a.b", "c")]),
        ('"http.https://x/.proxy":http://p:1', [("http.https://x/.proxy", "http://p:1")]),
        ('a.b:""', [("a.b", "")]),
        ("a.b: spaces are kept ", [("a.b", " spaces are kept ")]),
        (r"a.b:x\ny\tz\"\,\\,c.d:1", [("a.b", 'x\ny\tz",\\'), ("c.d", "1")]),
        (r'a.b:"x\ny\tz\"\,\\, and a comma",c.d:1', [("a.b", 'x\ny\tz",\\, and a comma'), ("c.d", "1")]),
        ('a.b:not"quoted"', [("a.b", 'not"quoted"')]),
        (r"a.b:\nc", [("a.b", "\nc")]),
    ],
)
def test_pairs_are_read(text, pairs):
    assert list(parse(text)) == pairs


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("abc", "no colon"),
        ("a.b:c,abc", "pair 2: it has no colon"),
        ("a.b:", "no value"),
        ("a.b:,c.d:1", "no value"),
        ('"a.b"c:1', "no colon follows"),
        ('"a.b', "not closed"),
        ('a.b:"c', "not closed"),
        ('a.b:"c"d', "closing quote"),
        (r"a.b:\x", r"\\x is no escape"),
        ("a.b:c\\", "no escape"),
        ("ab:c", "key is none"),
        (".b:c", "key is none"),
        ("a.:c", "key is none"),
        ("-a.9b:c", "key is none"),
        ("a_b.c:d", "key is none"),
        ("http://x/.proxy:y", "key is none"),
    ],
)
def test_what_is_no_pair_is_refused(text, reason):
    with pytest.raises(WrongPairs, match=reason):
        list(parse(text))


def test_an_error_shows_no_value():
    with pytest.raises(WrongPairs) as caught:
        given("http.extraHeader:Authorization: hunter2,hunter3", ())
    assert "hunter" not in str(caught.value)
    assert str(caught.value).startswith("--git-config cannot be read: pair 2: ")


def test_uses_of_git_config_add_are_joined():
    assert given("a.b:1", ("c.d:2", "e.f:3")) == (("a.b", "1"), ("c.d", "2"), ("e.f", "3"))


def listed(tmp_path, text):
    path = tmp_path / "config"
    path.write_text(text)
    done = subprocess.run(["git", "config", "--file", path, "--list", "-z"], capture_output=True, check=True)
    return [tuple(each.split("\n", 1)) for each in done.stdout.decode().split("\0") if each]


def test_a_later_pair_replaces_an_earlier_one(tmp_path):
    pairs = [Pair("gc.auto", "1"), Pair("http.U.proxy", "2"), Pair("GC.Auto", "3"), Pair("http.u.proxy", "4")]
    assert listed(tmp_path, rendered(pairs)) == [("gc.auto", "3"), ("http.U.proxy", "2"), ("http.u.proxy", "4")]


def test_a_block_holds_a_name_more_than_once(tmp_path):
    text = block("credential", 'https://x/"\\', [("helper", ""), ("helper", "! f")])
    assert listed(tmp_path, text) == [('credential.https://x/"\\.helper', text) for text in ("", "! f")]


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=20)


@settings(max_examples=50, deadline=None)
@drawn(subsection=texts.filter(lambda text: text and "\n" not in text), value=texts)
def test_git_reads_what_was_written(tmp_path_factory, subsection, value):
    pairs = [Pair(f"http.{subsection}.proxy", value), Pair("user.name", value)]
    expected = [(f"http.{subsection}.proxy", value), ("user.name", value)]
    assert listed(tmp_path_factory.mktemp("config"), rendered(pairs)) == expected


def test_the_file_is_private_and_removed(tmp_path):
    file = ConfigurationFile("[gc]\n", str(tmp_path))
    assert os.path.dirname(file.path) == str(tmp_path)
    assert os.path.basename(file.path).startswith("git-sync.gitconfig.")
    assert stat.S_IMODE(os.stat(file.path).st_mode) == 0o600
    file.close()
    assert list(tmp_path.iterdir()) == []


def test_without_a_place_for_it_the_file_is_in_memory(tmp_path):
    file = ConfigurationFile('[gc]\n\tauto = "7"\n', str(tmp_path / "missing"))
    done = subprocess.run(["git", "config", "--file", file.path, "gc.auto"], capture_output=True, check=True)
    assert done.stdout == b"7\n"
    file.close()
    assert not os.path.exists(file.path)
