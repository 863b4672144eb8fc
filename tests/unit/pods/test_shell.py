"""The shell, read into statements and words."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecars.pods.recognise.calling import script, unwrapped
from sidecars.pods.recognise.options import parted
from sidecars.pods.recognise.scope import Scope, duration, rendered, repository, seconds, shown
from sidecars.pods.shell import parse, quoted
from sidecars.pods.statements import (
    Background,
    Chain,
    Command,
    Each,
    Group,
    If,
    Loop,
    Opaque,
    Output,
    Pipeline,
    Redirect,
    Statement,
    Text,
    Unknown,
    Variable,
    Word,
)
from sidecars.pods.verdict import Container

WORDS = [
    ("a", [Text("a")]),
    ("'a $b'", [Text("a $b", True)]),
    ('"a  $B  c"', [Text("a  ", True), Variable("B", "$B"), Text("  c", True)]),
    (r'"a\"\$b\c"', [Text(r'a"$b\c', True)]),
    (r"a\ b", [Text("a b", True)]),
    ("$B", [Variable("B", "$B")]),
    ("x${B}y", [Text("x"), Variable("B", "${B}"), Text("y")]),
    ("${B:-c}", [Variable("B", "${B:-c}", "c")]),
    ("${B:-$C}", [Opaque("${B:-$C}")]),
    ("${B%.*}", [Opaque("${B%.*}")]),
    ("$((1+2))", [Opaque("$((1+2))")]),
    ("{a,b}/c", [Opaque("{a,b}/c")]),
    ("~/c", [Opaque("~/c")]),
    ("$'a\\n'", [Text("a\n", True)]),
    ('""', [Text("", True)]),
    ("*.log", [Text("*.log")]),
    ("http://a/{{ .Values.b }}?c=d", [Text("http://a/"), Opaque("{{ .Values.b }}"), Text("?c=d")]),
    ('"{{ .a }}"', [Opaque("{{ .a }}")]),
    ("$(KNOWN)", [Variable("KNOWN", "$(KNOWN)")]),
    ("a$(KNOWN)b", [Text("a"), Variable("KNOWN", "$(KNOWN)"), Text("b")]),
    ("'$(KNOWN)'", [Variable("KNOWN", "$(KNOWN)")]),
]


def one(text: str, known: frozenset[str] | None = frozenset({"KNOWN"})) -> Statement:
    statements = parse(text, known).statements
    assert len(statements) == 1
    return statements[0]


@pytest.mark.parametrize(("text", "parts"), WORDS, ids=[text for text, _ in WORDS])
def test_a_word_is_parted(text: str, parts: list[object]) -> None:
    command = one(f"echo {text}")
    assert isinstance(command, Command)
    assert list(command.words[1].parts) == parts


def test_what_kubernetes_does_not_know_is_the_shells() -> None:
    match one("echo $(date) $$(KNOWN)"):
        case Command([_, Word([Output([Command() as date])]), Word([Output([Command() as known])])]):
            assert (date.name, known.name) == ("date", "KNOWN")
        case other:
            pytest.fail(str(other))


def test_nothing_is_put_into_a_compose_file() -> None:
    match one("echo $(KNOWN)", None):
        case Command([_, Word([Output()])]):
            return
    pytest.fail("$(KNOWN) is a command there")


def named(statement: Statement) -> str:  # noqa: C901  (a table)
    """The form of a statement, for a table."""
    match statement:
        case Command():
            return statement.name or "command"
        case Chain(operator, left, right):
            return f"{named(left)} {operator} {named(right)}"
        case Pipeline(commands):
            return " | ".join(map(named, commands))
        case Loop(until, condition, body):
            word = "until" if until else "while"
            return f"{word} {' '.join(map(named, condition))} do {' '.join(map(named, body))}"
        case Each(name, _, body):
            return f"for {name} do {' '.join(map(named, body))}"
        case If(branches, otherwise):
            texts = [f"if {' '.join(map(named, each))} then {' '.join(map(named, body))}" for each, body in branches]
            return " el".join(texts) + (f" else {' '.join(map(named, otherwise))}" if otherwise else "")
        case Group(body):
            return f"({' '.join(map(named, body))})"
        case Background(inner):
            return f"{named(inner)} &"
    return type(statement).__name__.lower()


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("a && b || c", "a && b || c"),
        ("a | b | c > f", "a | b | c"),
        ("until a; do b; c; done", "until a do b c"),
        ("while ! a\ndo\n# nothing\nb\ndone", "while not do b"),
        ("for x in 1 2; do a; done", "for x do a"),
        ("for ((;;)); do a; done", "for  do a"),
        ("if a; then b; elif c; then d; else e; fi", "if a then b elif c then d else e"),
        ("(a; b)", "(a b)"),
        ("{ a; b; } 2>/dev/null", "(a b)"),
        ("a &", "a &"),
        ("[ -f x ]", "["),
        ("[[ -f x && -d y ]]", "[["),
        ("((i++))", "(("),
        ("X=1", "assignment"),
        ("export X=1 Y", "assignment"),
        ("f() { a; }", "function"),
        ("case $x in a) b;; esac", "unknown"),
        ("</dev/tcp/a/1", "command"),
    ],
)
def test_a_statement_has_its_form(text: str, form: str) -> None:
    assert named(one(text)) == form
    assert parse(text).whole


@pytest.mark.parametrize(
    ("text", "redirects"),
    [
        ("a > f", [Redirect(">", Word((Text("f"),)))]),
        ("a 2>&1", [Redirect(">&", Word((Text("1"),)), "2")]),
        ("a <<EOF\nx $Y\nEOF\n", [Redirect("<<", Word((Text("x ", True), Variable("Y", "$Y"), Text("\n", True))))]),
        ("a <<'EOF'\nx $Y\nEOF\n", [Redirect("<<", Word((Text("x $Y\n", True),)))]),
        ("a <<-EOF\n\tx\n\t\ty\n\tEOF\n", [Redirect("<<-", Word((Text("x\ny\n", True),)))]),
        ("a <<< b", [Redirect("<<<", Word((Text("b"),)))]),
        ("exec 3<>f", [Redirect("<>", Word((Text("f"),)), "3")]),
    ],
)
def test_a_redirect_is_read(text: str, redirects: list[Redirect]) -> None:
    command = one(text)
    assert isinstance(command, Command)
    assert list(command.redirects) == redirects
    assert parse(text).whole


@pytest.mark.parametrize(
    "text", ["until a; do b", "a '", "if a; then b", ")", "cat <<A | b\nx\nA\n", "a > b c", "\0", "x\ry"]
)
def test_what_is_not_understood_is_not_whole(text: str) -> None:
    read = parse(text)
    assert not read.whole
    assert read.statements


def test_what_is_too_long_is_not_read() -> None:
    assert [type(each) for each in parse("a;" * 40_000).statements] == [Unknown]


@settings(deadline=None)
@given(st.text(alphabet=st.characters(exclude_characters="$\0\r", exclude_categories=("Cs", "Co", "Cn")), max_size=40))
def test_an_argument_that_no_shell_sees_stays_as_it_is(text: str) -> None:
    word = quoted(text)
    assert str(word) == text
    if "{{" not in text:
        assert word.literal in (text, "")


@settings(deadline=None)
@given(st.text(alphabet="$(){}KNOW x", max_size=12))
def test_what_is_rendered_comes_back_as_kubernetes_reads_it(text: str) -> None:
    from sidecars.pods.recognise.accepted import expanded

    word = quoted(text, None)
    literal = word.literal
    if literal is not None:
        assert expanded(rendered(literal, expands=True), {"KNOWN": "no", "K": "no"}) == text


def test_a_dollar_before_a_variable_is_doubled() -> None:
    scope = Scope(Container(env={"A": "x"}))
    text = scope.text(Word((Text("$", True), Variable("A", "$A"))))
    assert rendered(text, expands=True) == "$$$(A)"
    assert shown(text) == "$$(A)"


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("sh -c S", ["S"]),
        ("/bin/bash -ec S a b", ["S", "a", "b"]),
        ("bash -euo pipefail -c S", ["S"]),
        ("bash --login -c S", ["S"]),
        ("sh script.sh", None),
        ("python -c S", None),
        ("sh -c", None),
    ],
)
def test_the_script_of_a_shell_is_found(words: str, found: list[str] | None) -> None:
    assert script(words.split()) == found


@pytest.mark.parametrize(
    ("words", "rest", "limit"),
    [
        ("tail -f a", "tail -f a", None),
        ("tini -g -- sh", "sh", None),
        ("timeout 1m sh", "sh", 60),
        ("timeout -k 5 10 sh", "sh", 10),
        ("timeout -t 30 sh", "sh", 30),
        ("env -i A=b C=d sh", "sh", None),
        ("busybox nc -z a 1", "nc -z a 1", None),
        ("nohup stdbuf -oL tail", "tail", None),
        ("tini", "", None),
    ],
)
def test_programs_around_another_are_taken_away(words: str, rest: str, limit: float | None) -> None:
    assert unwrapped(words.split()) == (rest.split(), limit)


def test_options_are_parted_as_getopt_does() -> None:
    words = ["-vzw3", "--name=x", "--long", "y", "-p", "db", "54", "--", "-z"]
    options = parted(words, "wp", ("long",))
    assert options.flags == {"v", "z"}
    assert options.values == {"w": ["3"], "name": ["x"], "long": ["y"], "p": ["db"]}
    assert options.operands == ["54", "-z"]


@pytest.mark.parametrize(("text", "length"), [("5", 5), ("1.5m", 90), ("2h", 7200), ("infinity", None), ("$X", None)])
def test_a_duration_is_read(text: str, length: float | None) -> None:
    assert seconds(text) == length


@pytest.mark.parametrize(("length", "text"), [(90, "90s"), (300, "5m"), (7200, "2h"), (0.2, "1s")])
def test_a_duration_is_written(length: float, text: str) -> None:
    assert duration(length) == text


@pytest.mark.parametrize(
    "image", ["busybox", "busybox:1.36", "docker.io/library/busybox@sha256:0", "registry:5000/x/busybox:1"]
)
def test_the_name_of_an_image_is_found(image: str) -> None:
    assert repository(image) == "busybox"
