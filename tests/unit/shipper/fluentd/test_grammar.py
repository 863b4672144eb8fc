"""The grammar of fluentd's configuration: what it reads, and which lines it refuses."""

# ruff: noqa: E501  (a message stands whole, as its reader sees it)

from __future__ import annotations

import json
import socket
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecars.core.errors import WrongSettings
from sidecars.shipper.fluentd.grammar import Element, Tree, read
from tests.unit.shipper.fluentd.conf import Folder

ENVIRON = {"BUCKET": "logs", "EMPTY": "", "QUOTED": 'a"b\\'}


def parsed(folder: Folder, text: str, environ: Mapping[str, str] = ENVIRON) -> Tree:
    path = folder.path / "fluent.conf"
    path.write_text(text)
    return read(str(path), environ)


def values(element: Element) -> dict[str, str]:
    return {name: parameter.value for name, parameter in element.parameters.items()}


def refused(folder: Folder, text: str, environ: Mapping[str, str] = ENVIRON) -> str:
    with pytest.raises(WrongSettings) as error:
        parsed(folder, text, environ)
    return str(error.value).replace(f"{folder.path}/", "")


# Compared with the readings of fluentd's own parser.
@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("a b", "b"),
        ("a   b c  ", "b c"),
        ("a\tb", "b"),
        ("a", ""),
        ("a  ", ""),
        ("a b # comment", "b"),
        ("a b#c", "b#c"),
        ("a # comment", "# comment"),
        ("a #b", "#b"),
        ("a b\r", "b"),
        ('a "b # c" # d', "b # c"),
        (r'a "b\n\t\"\\\0c"', 'b\n\t"\\\0c'),
        ('a "b\nc"', "b\nc"),
        ('a "b \\\nc"', "b c"),
        (r"a 'b\n\'\\c'", "b\\n'\\c"),
        ('a ""', ""),
        ('a b"c"', 'b"c"'),
        (r"a /^(?<time>[^#]+) \[x\]$/", r"/^(?<time>[^#]+) \[x\]$/"),
        ('a ["b", "c"]', '["b", "c"]'),
        ('a [\n  "b", # first\n  # all of it\n  "#c"\n] # end', '["b", "#c"]'),
        ('a {"b": {"c": [1]}}', '{"b": {"c": [1]}}'),
        ('"a" b', "b"),
        ("a <b>", "<b>"),
    ],
)
def test_a_value_is_read_as_fluentd_reads_it(folder: Folder, line: str, value: str) -> None:
    assert values(parsed(folder, line).root) == {"a": value}


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("ENV['BUCKET']", "logs"),
        ('ENV["BUCKET"]', "logs"),
        ("ENV['BUCKET'] || 'other'", "logs"),
        ("ENV['NONE'] || 'other'", "other"),
        ('ENV["NONE"]||"other"', "other"),
        ("ENV['EMPTY'] || 'other'", ""),
        ("ENV['NONE']", ""),
        ('ENV.fetch("BUCKET")', "logs"),
        ("ENV.fetch('NONE', 'other')", "other"),
        ('ENV.fetch("BUCKET", "other")', "logs"),
        ("Socket.gethostname", socket.gethostname()),
        (" hostname ", socket.gethostname()),
        ("worker_id", "0"),
    ],
)
def test_ruby_is_put_in_between_double_quotes(folder: Folder, code: str, value: str) -> None:
    assert values(parsed(folder, f'a "x-#{{{code}}}.#{{hostname}}"').root) == {"a": f"x-{value}.{socket.gethostname()}"}


@pytest.mark.parametrize("code", ["ENV['NONE'] || use_nil", "ENV['NONE'] || use_default", "use_default", "use_nil"])
def test_a_parameter_can_ask_to_be_left_out(folder: Folder, code: str) -> None:
    assert values(parsed(folder, f'a "x #{{{code}}}"\nb 1').root) == {"b": "1"}


def test_ruby_is_mere_text_anywhere_else(folder: Folder) -> None:
    tree = parsed(folder, "a '#{hostname}'\nb #{hostname}")
    assert values(tree.root) == {"a": "#{hostname}", "b": "#{hostname}"}


def test_ruby_in_an_array_cannot_break_out_of_its_string(folder: Folder) -> None:
    tree = parsed(folder, """a ["#{ENV["BUCKET"]}", "#{ENV['QUOTED']}"]""")
    assert json.loads(tree.root.parameters["a"].value) == ["logs", 'a"b\\']


def test_a_variable_that_is_not_set_is_warned_of(folder: Folder) -> None:
    (warning,) = parsed(folder, "a 1\nb \"#{ENV['NONE']}\"").warnings
    assert warning == f"{folder.path}/fluent.conf:2: the variable NONE is not set: it is empty here"


def test_elements_have_arguments_lines_and_elements(folder: Folder) -> None:
    tree = parsed(
        folder,
        "\n<source> # one\n  a 1\n</source>\n<match a.**   b.{c,d} >\n  <buffer tag, time>\n    b 2\n  </buffer>\n  c 3\n</match>\n<match \"#{ENV['BUCKET']}.*\">\n</match>",
    )
    source, match, quoted = tree.root.elements
    assert (source.name, source.argument, source.place) == ("source", "", f"{folder.path}/fluent.conf:2")
    assert (match.argument, values(match), quoted.argument) == ("a.**   b.{c,d}", {"c": "3"}, "logs.*")
    (buffer,) = match.elements
    assert (buffer.argument, values(buffer)) == ("tag, time", {"b": "2"})
    assert buffer.parameters["b"].place == f"{folder.path}/fluent.conf:7"


def test_of_a_name_that_is_there_twice_the_last_counts(folder: Folder) -> None:
    root = parsed(folder, "a 1\na 2").root
    assert (root.parameters["a"].value, root.parameters["a"].place) == ("2", f"{folder.path}/fluent.conf:2")


def test_files_are_included_in_order_and_from_where_they_are(folder: Folder) -> None:
    folder.write("@include parts/*.conf\n@include more.conf", "conf.d/all.conf")
    folder.write("<source>\n  a 2\n</source>", "conf.d/parts/b.conf")
    folder.write("<source>\n  a 1\n</source>", "conf.d/parts/a.conf")
    folder.write("<source>\n  a 3\n  @include inner.conf\n</source>", "conf.d/more.conf")
    folder.write("b 4", "conf.d/inner.conf")
    root = parsed(folder, "@include conf.d/all.conf\n@include none/*.conf\n<source>\n a 5\n</source>").root
    assert [values(element) for element in root.elements] == [{"a": "1"}, {"a": "2"}, {"a": "3", "b": "4"}, {"a": "5"}]
    assert root.elements[2].parameters["b"].place == f"{folder.path}/conf.d/inner.conf:1"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("<source>\n a 1\n", "fluent.conf:3: </source> is missing for the <source> of fluent.conf:1; add it"),
        ("<a>\n</b>", "fluent.conf:2: </b> closes nothing: <a> of fluent.conf:1 is open; correct it"),
        ("\n</a>", "fluent.conf:2: </a> closes nothing: none is open in this file; correct it"),
        ("<a>\n</a> b 1", "fluent.conf:2: </a> is not alone on its line; put what follows on the next"),
        ("<a> b 1\n</a>", "fluent.conf:1: <a> is not alone on its line; put what follows on the next"),
        ("<a b\n</a>", "fluent.conf:1: <a has no > on its line; add it"),
        ("< a>", "fluent.conf:1: < is not followed by a name; quote the value if it is one"),
        ('a 1\nb "c" d', "fluent.conf:2: something follows the value of b; quote all of it, or nothing"),
        ('a 1\nb "c', 'fluent.conf:2: a " is never closed; close it'),
        ("b 'c\n'", "fluent.conf:1: a ' is not closed on its line; close it"),
        (r'b "\d"', r"fluent.conf:1: \d has no meaning between double quotes; write \\d for a backslash"),
        ('b ["c"\n', "fluent.conf:1: an array or hash is never closed; close it, or quote the value"),
        ("b [c]", "fluent.conf:1: this array or hash is not JSON; correct it, or quote the value"),
        ('b\n"a"c', "fluent.conf:2: a parameter is a name, a blank and a value; correct the line"),
        (
            "@include https://x/a.conf",
            "fluent.conf:1: @include takes the path of a file or a glob; mount what it names",
        ),
        ("@include none.conf", "fluent.conf:1: there is no none.conf to include; is it mounted?"),
        ("@include *.conf", "fluent.conf:1: fluent.conf includes itself; leave this out"),
        (
            "a \"#{ENV.fetch('NONE')}\"",
            "fluent.conf:1: the variable NONE is not set: set it, or give a default as ENV.fetch('NONE', 'text')",
        ),
        (
            'a 1\nb "#{`id`}"',
            "fluent.conf:2: #{...} holds Ruby that is not run here; only these are known: ENV['X'], ENV['X'] || 'default', ENV['X'] || use_default, ENV.fetch('X'), ENV.fetch('X', 'default'), hostname, Socket.gethostname, worker_id, use_nil, use_default",
        ),
    ],
)
def test_what_is_not_understood_is_refused_with_its_line(folder: Folder, text: str, error: str) -> None:
    assert refused(folder, text) == error


@pytest.mark.parametrize("code", ["ENV", "ENV['A'] + 'b'", "ENV['#{x}']", "File.read('/x')", "ENV['A'].to_s", ""])
def test_other_ruby_is_refused(folder: Folder, code: str) -> None:
    assert "Ruby that is not run here" in refused(folder, f'a "#{{{code}}}"')


def test_files_that_include_each_other_are_refused(folder: Folder) -> None:
    folder.write("@include fluent.conf", "b.conf")
    assert refused(folder, "@include b.conf") == "b.conf:1: fluent.conf includes itself; leave this out"


def test_a_file_that_cannot_be_read_is_refused(folder: Folder) -> None:
    with pytest.raises(
        WrongSettings, match=r"^cannot read /none/fluent.conf: No such file or directory; is it mounted"
    ):
        read("/none/fluent.conf", {})
    (folder.path / "latin.conf").write_bytes(b"a \xe9")
    with pytest.raises(WrongSettings, match="is not UTF-8"):
        read(str(folder.path / "latin.conf"), {})
    with pytest.raises(WrongSettings, match="is fluentd's YAML"):
        read("/fluentd/etc/fluent.yaml", {})


PRINTED = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\t\n"))


@given(PRINTED)
def test_a_text_between_double_quotes_comes_back(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = Folder(tmp_path_factory.getbasetemp())
    quoted = text.replace("\\", "\\\\").replace('"', '\\"').replace("#{", "#\\{")
    assert values(parsed(folder, f'a "{quoted}" # c').root) == {"a": text}


@given(st.text("ab<>/\"'#{}[], \n\t@\\"))
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = Folder(tmp_path_factory.getbasetemp())
    try:
        parsed(folder, text)
    except WrongSettings as error:
        assert str(error).startswith(str(folder.path))
