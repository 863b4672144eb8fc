from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sidecars.core.errors import SidecarError, WrongSettings
from sidecars.core.settings import load
from sidecars.init import rendering
from sidecars.init.rendering import render

NAMED = {"A": "1", "APP_B": "two", "EMPTY": ""}

CASES = [
    ("$A ${A} $APP_B", "1 1 two"),
    ("$AB ${AB} $A-B ${ A } $(A) $ {A}", "$AB ${AB} 1-B ${ A } $(A) $ {A}"),
    ("$uri $1 $$A $$ ${} $ ${A", "$uri $1 $1 $$ ${} $ ${A"),
    ("${A:-x} ${EMPTY:-x} ${EMPTY-x} ${EMPTY}", "1 x  "),
    ("${other:-x} ${other-x} ${other}", "${other:-x} ${other-x} ${other}"),
    ("${A:+x} ${A:=x} ${A:?x} ${#A} ${A%x}", "${A:+x} ${A:=x} ${A:?x} ${#A} ${A%x}"),
    ("${A:-$APP_B} ${EMPTY:-a:b-c}", "1 a:b-c"),
    ("a\r\n$A\r\n\0\udcff", "a\r\n1\r\n\0\udcff"),
]


@pytest.mark.parametrize(("template", "rendered"), CASES)
def test_what_is_named_is_replaced_and_nothing_else(template: str, rendered: str) -> None:
    assert render(template, NAMED) == rendered


# Dollars, braces and names, which arbitrary text would seldom have.
TEMPLATES = st.lists(
    st.sampled_from(["$", "{", "}", "A", "B", ":-", "-", "$A", "${A}", "${B:-A}", "\n", "\\", "'", "\udcff"])
    | st.text()
).map("".join)


@given(TEMPLATES)
def test_without_a_name_every_byte_stays(template: str) -> None:
    assert render(template, {}) == template


@given(TEMPLATES, st.text())
def test_what_is_not_named_stays_where_it_was_around_what_is(template: str, value: str) -> None:
    """The parts between references to A are those of the template."""
    parts = re.split(r"(\$A(?![A-Za-z0-9_])|\$\{A(?::?-[^{}]*)?\})", template)
    expected = "".join(
        part if number % 2 == 0 else value or (part.rstrip("}").partition(":-")[2] if ":-" in part else "")
        for number, part in enumerate(parts)
    )
    assert render(template, {"A": value}) == expected


VALUES = st.text() | st.text(alphabet=st.characters(max_codepoint=0x2100)) | st.text(alphabet="\\\"'$`\n\t {}:#-;%")


@given(VALUES)
@example("\x7f\x85\u2028\u2029\ufeff\U0001f600")
@example('it\'s "quoted": \\n\n# no comment')
def test_json_reads_an_escaped_value_back(value: str) -> None:
    assert json.loads(render('{"k": "a${V}b"}', {"V": value}, "json")) == {"k": f"a{value}b"}


@given(VALUES)
@example("\x7f\x85\u2028\u2029\ufeff\U0001f600\ufffe")
@example('it\'s "quoted": \\n\n  # no comment: %\t')
def test_yaml_reads_an_escaped_value_back(value: str) -> None:
    assert yaml.safe_load(render('k: "a${V}b"', {"V": value}, "yaml")) == {"k": f"a{value}b"}


@given(VALUES.filter(lambda value: "\0" not in value))
def test_a_shell_reads_an_escaped_value_back(value: str) -> None:
    assert shlex.split(render("echo ${V} x", {"V": value}, "shell")) == ["echo", value, "x"]


def test_a_real_shell_does_too() -> None:
    value = "a'b\"c$HOME`id`\\ \n*;&|<>()#"
    script = render("printf %s ${V}", {"V": value}, "shell")
    assert subprocess.run(["sh", "-c", script], capture_output=True, check=True).stdout.decode() == value


@pytest.mark.skipif(not shutil.which("nginx"), reason="NOT PROVEN HERE: needs Debian's nginx")
def test_nginx_reads_an_escaped_value_back(tmp_path: Path) -> None:
    """By the name of a log format that is used twice: nginx says it."""
    value = "a'b\"c\\d;{}# x"
    text = "events {} http { log_format \"${V}\" x; log_format '${V}' x; }"
    (tmp_path / "n.conf").write_text(f"pid {tmp_path}/pid; error_log stderr; {render(text, {'V': value}, 'nginx')}")
    done = subprocess.run(["nginx", "-t", "-p", tmp_path, "-c", tmp_path / "n.conf"], capture_output=True, text=True)
    assert f'duplicate "log_format" name "{value}"' in done.stderr


@pytest.mark.parametrize(
    ("value", "escape", "words"),
    [
        ("$uri", "nginx", "V has a $ in its value"),
        ("\udcff", "json", "V has a value that is not UTF-8, which JSON cannot hold"),
        ("\udcff", "yaml", "which YAML cannot hold"),
        ("a\0b", "shell", "V has a NUL"),
        ("a\0b", "nginx", "V has a NUL"),
    ],
)
def test_a_value_that_cannot_be_held_is_an_error_that_does_not_say_it(
    value: str, escape: rendering.Escape, words: str
) -> None:
    with pytest.raises(SidecarError) as refused:
        render("${V}", {"V": value}, escape)
    assert words in str(refused.value) and "uri" not in str(refused.value)


class Meant(dict[str, str]):
    """Knows X, which has no value."""

    def __contains__(self, name: object) -> bool:
        return name == "X" or super().__contains__(name)


def test_a_variable_that_is_not_set_is_an_error_that_says_all_of_them_and_where() -> None:
    values: Mapping[str, str] = Meant(A="1")
    with pytest.raises(SidecarError, match=r"^t needs variables that are not set: X in line 2, X in line 3; "):
        render("$A ${X:-d}\n$X\n${X}\n${X-}", values, template="t")
    assert render("${X:-d} ${X-e} ${X-}", values) == "d e "


WRONG = [
    ("", "render needs TEMPLATE:OUT"),
    ("a:b", "say which variables"),
    ("a --vars A", "'a' is no TEMPLATE:OUT"),
    ("a:b --secret A", "--secret needs NAME=PATH"),
    ("a:b --vars A --mode 9", "expected permissions in octal"),
    ("a:b --vars A --escape xml", "--escape is 'xml'"),
]


@pytest.mark.parametrize(("line", "words"), WRONG)
def test_wrong_settings_say_what_to_do(line: str, words: str) -> None:
    with pytest.raises(WrongSettings) as refused:
        load(rendering.Settings, prog="pod-init render", prefix="INIT_", argv=line.split(), environ={})
    assert words in str(refused.value)


@pytest.mark.skipif(not shutil.which("envsubst"), reason="NOT PROVEN HERE: needs Debian's gettext-base")
@settings(deadline=None, max_examples=25)  # A program is started for each.
@given(TEMPLATES.filter(lambda text: "\0" not in text))
def test_envsubst_agrees_but_for_defaults_which_it_has_not(template: str) -> None:
    if "-" in template:
        return
    data = template.encode("utf-8", "surrogateescape")
    given_ = {**os.environ, "A": "1", "B": ""}
    done = subprocess.run(["envsubst", "$A $B"], input=data, env=given_, capture_output=True, check=True)
    assert done.stdout == render(template, {"A": "1", "B": ""}).encode("utf-8", "surrogateescape")
