"""The manual that --man prints, made from the declaration of the settings."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator

from sidecars.core.declaration import Setting, declared
from sidecars.core.reference import default_text, given
from sidecars.syncer import legacy
from sidecars.syncer.settings import BEYOND, PREFIX, PROG, Settings

_WIDTH = 100
_DESCRIPTION = """\
Keeps a directory at a revision of a git repository. Each --period the ref is looked up; when it has moved, the new
commit is checked out beside the old one and a symlink is turned to it in one step, so that who reads through the link
finds one whole revision or the other.

The link is --root/--link. It leads to .worktrees/HASH: the last part of its target is the full hash of what is
published.

It takes the command line and the environment of git-sync, of its versions 4 and 3."""
_OPTIONS = """\
A flag wins over its variables. Of an option's variables an older one wins over a newer one, and is deprecated.
Durations are written as 300ms, 90s or 2h45m."""
_STATUS = (
    ("0", "--one-time is done and all hooks succeeded; help was asked for; SIGTERM"),
    ("1", "a wrong configuration, a failure at the start, too many failures, or a hook that failed with --one-time"),
    ("2", "a command line that cannot be read"),
)


def manual() -> str:
    """Write the manual, for a terminal or a pager."""
    return "\n".join(
        [
            "GIT-SYNCER\n\nNAME",
            f"    {PROG} - keep a directory at a revision of a git repository\n\nSYNOPSIS",
            f"    {PROG} --repo=URL --root=PATH [--ref=REF] [OPTION]...\n\nDESCRIPTION",
            *_paragraphs(_DESCRIPTION),
            "OPTIONS",
            *_paragraphs(_OPTIONS),
            *_options(lambda setting: setting.name not in BEYOND),
            "OPTIONS THAT GIT-SYNC DOES NOT HAVE",
            *_options(lambda setting: setting.name in BEYOND),
            "OPTIONS OF VERSION 3, DEPRECATED",
            *_old_options(),
            "EXIT STATUS",
            *(f"    {code}    {text}" for code, text in _STATUS),
        ]
    )


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        yield textwrap.fill(paragraph, _WIDTH, initial_indent="    ", subsequent_indent="    ") + "\n"


def _options(wanted: Callable[[Setting], bool]) -> Iterator[str]:
    for setting in sorted(declared(Settings, PREFIX), key=lambda each: each.name):
        if wanted(setting):
            old = [name for new in setting.variables for name in legacy.VARIABLES.get(new, ())]
            names = [*(f"${name}" for name in setting.variables), *(f"${name} (deprecated)" for name in old)]
            short = ["-v N"] if setting.name == "verbose" else []
            heads = [*short, *([given(setting)] if setting.flag else []), *names]
            default = default_text(setting)
            yield from _entry(", ".join(heads), setting.help.text + (f" Default: {default}." if default else ""))


def _old_options() -> Iterator[str]:
    for name, flag in sorted(legacy.FLAGS.items()):
        yield from _entry(
            ", ".join([f"--{name}", *([f"${flag.variable}"] if flag.variable else [])]), f"Use {flag.instead}."
        )


def _entry(head: str, text: str) -> list[str]:
    indent = " " * 12
    return [f"    {head}", textwrap.fill(text, _WIDTH, initial_indent=indent, subsequent_indent=indent) + "\n"]
