"""What stands in a script and is not the shell's: templates, and the variables that Kubernetes puts in before it runs.

It is hidden from the parser of the shell behind one character each, which is a part of whatever word it stands in.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

from sidecars.pods.statements import Opaque, Part, Text, Variable

LONGEST = 64 * 1024  # characters: nobody writes more than that into a manifest's command, and no parser should have to
_HIDDEN = 0xE000  # private use: one character for each text that is no shell's
_LONGEST_HIDDEN = 1000  # characters: of a name, or of what stands within {{ }}
_MOST_HIDDEN = 0x1900
# Characters that are used here and by recognise/scope.py, and what is no text at all.
_STRANGE = re.compile("[\0\r\ud800-\udfff\ue000-\uf8ff\ufdd0-\ufdef]")


def hide(text: str, known: Collection[str] | None) -> tuple[str, list[Part]]:
    """Put one character for each text that is not the shell's; give these texts.

    `known` are the names that `$(NAME)` is replaced for; None: nothing is. Raises ValueError for a text
    that no script is.
    """
    if len(text) > LONGEST or _STRANGE.search(text):
        raise ValueError("too long, or with characters that no script has")
    shell: list[str] = []
    hidden: list[Part] = []
    place = 0
    marks = dict.fromkeys(("{{", "$(", "$$") if known is not None else ("{{",), -1)
    while (found := _next(text, place, marks)) < len(text):
        shell.append(text[place:found])
        instead, place = _replaced(text, found, known or ())
        if isinstance(instead, str):
            shell.append(instead)
        else:
            shell.append(chr(_HIDDEN + len(hidden)))
            hidden.append(instead)
        if len(hidden) > _MOST_HIDDEN - 1:
            raise ValueError("too many templates")
    return "".join([*shell, text[place:]]), hidden


def _next(text: str, place: int, marks: dict[str, int]) -> int:
    """Find where the next text begins that may not be the shell's; where each mark comes next is kept in `marks`."""
    for mark, known in marks.items():
        if known < place:
            found = text.find(mark, place)
            marks[mark] = len(text) if found < 0 else found
    return min(marks.values())


def _replaced(text: str, start: int, known: Collection[str]) -> tuple[str | Part, int]:
    """Give what stands for the text at a place, and where it ends.

    Source: Kubernetes, third_party/forked/golang/expansion/expand.go: $$ is a dollar, $(NAME) of an unknown name stays.
    """
    if text.startswith("$$", start):
        return "$", start + 2
    close = "}}" if text.startswith("{{", start) else ")"
    end = text.find(close, start, start + _LONGEST_HIDDEN)
    inside = text[start + 2 : end]
    if end < 0:
        return text[start : start + 2], start + 2
    if close == "}}":
        return Opaque(text[start : end + 2]), end + 2
    if inside in known:
        return Variable(inside, text[start : end + 1]), end + 1
    return "$(", start + 2


def parts(text: str, hidden: Sequence[Part], *, quoted: bool) -> Iterator[Part]:
    """Part literal text from what was hidden in it."""
    if not hidden:
        if text:
            yield Text(text, quoted)
        return
    start = 0
    for place, char in enumerate(text):
        if 0 <= ord(char) - _HIDDEN < len(hidden):
            if place > start:
                yield Text(text[start:place], quoted)
            yield hidden[ord(char) - _HIDDEN]
            start = place + 1
    if start < len(text):
        yield Text(text[start:], quoted)
