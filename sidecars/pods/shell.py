"""The shell, read by tree-sitter-bash into statements and words of our own: the one door to the parser.

Text that is not shell, but that a template engine or Kubernetes replaces before a shell sees it, is kept as a part of
the word that it stands in: `{{ .Values.host }}`, and `$(NAME)` where the container has the variable NAME.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import tree_sitter
import tree_sitter_bash

from sidecars.pods.hiding import LONGEST, hide, parts
from sidecars.pods.statements import (
    Assignment,
    Background,
    Chain,
    Command,
    Each,
    Function,
    Group,
    If,
    Loop,
    Not,
    Opaque,
    Part,
    Pipeline,
    Redirect,
    Script,
    Statement,
    Text,
    Unknown,
    Word,
)
from sidecars.pods.wording import WORDS, Words

_DEEPEST = 30  # statements within each other: what is deeper than Python's own stack would end the program


@functools.lru_cache(maxsize=512)
def parse(text: str, known: frozenset[str] | None = frozenset()) -> Script:
    """Read a script as `sh -c` gets it.

    `known` are the variables that Kubernetes puts in for `$(NAME)` before the shell sees anything; None when nothing
    does. Never raises: what cannot be read is an Unknown.
    """
    try:
        shell, hidden = hide(text, known)
        source = shell.encode()
    except ValueError:
        return Script((Unknown(text[:LONGEST]),), whole=False)
    tree = _parser().parse(source)
    reader = _Reader(source, hidden)
    statements = reader.sequence(tree.root_node.children)
    return Script(statements, not reader.lost and not (tree.root_node.has_error and _broken(tree.root_node)))


def quoted(text: str, known: frozenset[str] | None = frozenset()) -> Word:
    """Make a word of an argument that no shell sees; Kubernetes's variables are parts of it all the same."""
    try:
        shell, hidden = hide(text, known)
    except ValueError:
        return Word((Opaque(text[:LONGEST]),))
    return Word(tuple(parts(shell, hidden, quoted=True)))


@functools.cache
def _parser() -> tree_sitter.Parser:
    return tree_sitter.Parser(tree_sitter.Language(tree_sitter_bash.language()))


_Node: TypeAlias = tree_sitter.Node
_SEPARATORS = frozenset(
    (";", ";;", "\n", "comment", "heredoc_body", "do", "done", "(", ")", "{", "}", "then", "else", "fi")
)
_REDIRECTS = frozenset(("file_redirect", "heredoc_redirect", "herestring_redirect"))


def _broken(root: _Node) -> bool:
    """Say whether anything could not be parsed; but for `3<>file`, which the grammar does not know and we do."""
    nodes = [root]
    while nodes:
        node = nodes.pop()
        if node.is_missing or (node.is_error and not (node.text in (b"<", b">") and node.next_sibling)):
            return True
        nodes += node.children if node.has_error else []
    return False


class _Reader:
    """Makes our statements from the parser's tree.

    lost  something has no form here and left no Unknown behind
    """

    def __init__(self, source: bytes, hidden: Sequence[Part]) -> None:
        self.lost = False
        self._words = Words(source, hidden, self.sequence)
        self._depth = 0
        self._forms: dict[str, Callable[[_Node], Statement]] = {
            "command": self._command,
            "test_command": self._test,
            "redirected_statement": self._redirected,
            "negated_command": lambda node: Not(self._statement(node.children[-1])),
            "pipeline": self._pipeline,
            "list": self._list,
            "while_statement": self._while,
            "for_statement": self._for,
            "c_style_for_statement": self._counting,
            "if_statement": self._if,
            "subshell": lambda node: Group(self.sequence(node.children)),
            "compound_statement": self._compound,
            "function_definition": self._function,
            "variable_assignment": lambda node: self._assignment([node]),
            "variable_assignments": lambda node: self._assignment(node.children),
            "declaration_command": lambda node: self._assignment(node.named_children),
        }

    def sequence(self, nodes: Sequence[_Node]) -> tuple[Statement, ...]:
        """Read statements that follow one another."""
        statements: list[Statement] = []
        for node in nodes:
            if node.type == "&" and statements:
                statements.append(Background(statements.pop()))
            elif node.type not in _SEPARATORS:
                statements.append(self._statement(node))
        return tuple(statements)

    def _statement(self, node: _Node) -> Statement:
        form = self._forms.get(node.type)
        if form is None or node.is_missing or self._depth > _DEEPEST:
            return Unknown(self._text(node))
        self._depth += 1
        try:
            return form(node)
        finally:
            self._depth -= 1

    def _command(self, node: _Node) -> Statement:
        words: list[Word] = []
        redirects: list[Redirect] = []
        assignments: list[tuple[str, Word]] = []
        for child in node.children:
            if child.type in _REDIRECTS:
                redirects += self._redirects(child)
            elif child.type == "variable_assignment":
                assignments += self._assignment([child]).values
            else:
                words.append(self._words.read(child))
        return Command(tuple(words), tuple(redirects), tuple(assignments))

    def _test(self, node: _Node) -> Statement:
        if node.children[0].type == "((":
            return Command((Word((Text("((", True),)), Word((Opaque(self._text(node)),))))
        return Command(tuple(self._leaves(node)))

    def _leaves(self, node: _Node) -> Iterator[Word]:
        """Give the words of a test, whose operators the parser has sorted already."""
        if self._depth > _DEEPEST:
            yield Word((Opaque(self._text(node)),))
            return
        self._depth += 1
        for child in node.children:
            if child.type in WORDS or not child.child_count:
                yield self._words.read(child)
            else:
                yield from self._leaves(child)
        self._depth -= 1

    def _redirected(self, node: _Node) -> Statement:
        redirects: list[Redirect] = []
        statements = []
        for child in node.children:
            if child.type in _REDIRECTS:
                redirects += self._redirects(child)
            else:
                statements.append(self._statement(child))
        if not statements:
            return Command((), tuple(redirects))
        if len(statements) != 1:
            return Group(tuple(statements), tuple(redirects))
        return _attached(statements[0], tuple(redirects))

    def _redirects(self, node: _Node) -> list[Redirect]:
        if node.type == "heredoc_redirect":
            return self._heredoc(node)
        descriptor = operator = ""
        words = []
        for child in node.children:
            if child.type == "file_descriptor":
                descriptor = self._text(child)
            elif child.type in WORDS:
                words.append(self._words.read(child))
            else:
                operator += self._text(child)
        # `> a b` is a redirect to a, but the parser gives the redirect both words.
        self.lost |= len(words) > 1
        return [Redirect(operator, words[0] if words else Word(), descriptor)]

    def _heredoc(self, node: _Node) -> list[Redirect]:
        redirects: list[Redirect] = []
        body = Word()
        raw = any(set(self._text(child)) & set("'\"\\") for child in node.children if child.type == "heredoc_start")
        for child in node.children:
            if child.type == "heredoc_body":
                body = self._words.document(child, raw, tabs=node.children[0].type == "<<-")
            elif child.type in _REDIRECTS:
                redirects += self._redirects(child)
            elif child.type not in ("<<", "<<-", "heredoc_start", "heredoc_end"):
                self.lost = True
        return [Redirect(node.children[0].type, body), *redirects]

    def _pipeline(self, node: _Node) -> Statement:
        return Pipeline(tuple(self._statement(child) for child in node.children if child.type not in ("|", "|&")))

    def _list(self, node: _Node) -> Statement:
        left, operator, right = node.children[0], node.children[1], node.children[-1]
        if len(node.children) != 3:
            return Unknown(self._text(node))
        return Chain(self._text(operator), self._statement(left), self._statement(right))

    def _while(self, node: _Node) -> Statement:
        condition = self.sequence([child for child in node.children[1:] if child.type != "do_group"])
        return Loop(node.children[0].type == "until", condition, self._done(node))

    def _done(self, node: _Node) -> tuple[Statement, ...]:
        return self.sequence([each for child in node.children if child.type == "do_group" for each in child.children])

    def _for(self, node: _Node) -> Statement:
        if node.children[0].type != "for":
            return Unknown(self._text(node))
        words = [self._words.read(child) for child in node.children[2:] if child.type in WORDS]
        return Each(self._text(node.children[1]), tuple(words), self._done(node))

    def _counting(self, node: _Node) -> Statement:
        text = self._text(node).partition("((")[2].partition("))")[0]
        body = [each for child in node.children if child.type == "compound_statement" for each in child.children]
        return Each("", (), self._done(node) or self.sequence(body), counting=text)

    def _if(self, node: _Node) -> Statement:
        branches = [self._branch(node)]
        otherwise: tuple[Statement, ...] = ()
        for child in node.children:
            if child.type == "elif_clause":
                branches.append(self._branch(child))
            elif child.type == "else_clause":
                otherwise = self.sequence(child.children)
        return If(tuple(branches), otherwise)

    def _branch(self, node: _Node) -> tuple[tuple[Statement, ...], tuple[Statement, ...]]:
        children = [child for child in node.children[1:] if child.type not in ("elif_clause", "else_clause")]
        then = next((place for place, child in enumerate(children) if child.type == "then"), len(children))
        return self.sequence(children[:then]), self.sequence(children[then:])

    def _compound(self, node: _Node) -> Statement:
        if node.children[0].type == "((":
            return Command((Word((Text("((", True),)), Word((Opaque(self._text(node)),))))
        return Group(self.sequence(node.children))

    def _function(self, node: _Node) -> Statement:
        name, body = node.child_by_field_name("name"), node.child_by_field_name("body")
        if name is None or body is None:
            return Unknown(self._text(node))
        return Function(self._text(name), self.sequence([body]))

    def _assignment(self, nodes: Sequence[_Node]) -> Assignment:
        values = []
        for node in nodes:
            name, value = node.child_by_field_name("name"), node.child_by_field_name("value")
            if node.type == "variable_assignment" and name is not None:
                plain = name.type == "variable_name" and "+=" not in [child.type for child in node.children]
                empty = Word() if plain else Word((Opaque(self._text(node)),))
                values.append((self._text(name), self._words.read(value) if value is not None and plain else empty))
            elif node.type not in ("variable_name", "word"):
                self.lost = True
        return Assignment(tuple(values))

    def _text(self, node: _Node) -> str:
        return self._words.text(node)


def _attached(statement: Statement, redirects: tuple[Redirect, ...]) -> Statement:
    """Give redirects to the command that they stand behind: the parser has them around the whole of a pipeline."""
    match statement:
        case Command(words, own, assignments):
            return Command(words, own + redirects, assignments)
        case Pipeline(commands) if commands:
            return Pipeline((*commands[:-1], _attached(commands[-1], redirects)))
        case Chain(operator, left, right):
            return Chain(operator, left, _attached(right, redirects))
        case Not(inner):
            return Not(_attached(inner, redirects))
        case Group(body, own):
            return Group(body, own + redirects)
    return Group((statement,), redirects)
