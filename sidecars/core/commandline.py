"""The flags and arguments of a program, as its settings declare them."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from sidecars.core.declaration import Setting, holds
from sidecars.core.errors import WrongSettings

# A user, a colon that does not begin a port number, and a password, which may hold an unescaped slash.
PASSWORD = re.compile(r"://[^\s/?#@:]*:(?!\d+(?:[/?#\s]|$))[^\s@]*@")
QUESTIONS = {"-h": "help", "--help": "help", "--version": "version", "--check-config": "check"}


class CommandLine(msgspec.Struct):
    """What a command line says: texts by setting, the config file, and what is asked instead of a run."""

    asked: set[str]
    texts: dict[str, list[str]] = {}
    config: str = ""


def parse(argv: Sequence[str], settings: Sequence[Setting], *, passwords: bool = False) -> CommandLine:
    """Read a command line: --flag VALUE, --flag=VALUE, --flag and --no-flag for a bool, and `--` before arguments only.

    A flag given again replaces what it said before, except that of a list, which gets one more element. --help and
    --version are heard whatever else is wrong. With `passwords` a URL may hold one, as some drop-ins must allow.
    """
    flags = {setting.flag: setting for setting in settings if setting.flag}
    words, dashes, plain = list(argv), "--" in argv, []
    if dashes:
        plain, words = words[words.index("--") + 1 :], words[: words.index("--")]
    line = CommandLine(asked={QUESTIONS[word] for word in words if word in QUESTIONS})
    if line.asked & {"help", "version"}:
        return line
    arguments = []
    while words:
        word = words.pop(0)
        if not word.startswith("-") or word == "-":
            arguments.append(word)
        elif word not in QUESTIONS:
            keep(line, flags, *split(word, words, flags), passwords=passwords)
    positional(line, settings, arguments + plain, passwords=passwords)
    return line


def split(word: str, rest: list[str], flags: dict[str, Setting]) -> tuple[str, str]:
    """Give the flag of a word and its value, taken from the rest of the line where no `=` brings it."""
    flag, equals, text = word.partition("=")
    denied = "--" + flag.removeprefix("--no-")
    if flag not in flags and denied != flag and boolean(flags.get(denied)) and not equals:
        return denied, "false"
    if flag not in flags and flag != "--config":
        raise WrongSettings(unknown(flag, flags))
    if equals:
        return flag, text
    if boolean(flags.get(flag)):
        return flag, "true"
    if not rest or rest[0].startswith("--"):
        raise WrongSettings(f"{flag} has no value: give one, as {flag} VALUE or {flag}=VALUE")
    return flag, rest.pop(0)


def boolean(setting: Setting | None) -> bool:
    """Its flag needs no value."""
    return setting is not None and holds(setting.kind) is bool


def keep(line: CommandLine, flags: dict[str, Setting], flag: str, text: str, *, passwords: bool) -> None:
    """Note what one flag says."""
    if flag == "--config":
        line.config = text
        return
    if PASSWORD.search(text) and not passwords:
        raise WrongSettings(password(flag, flags[flag].variable))
    line.texts.setdefault(flags[flag].name, []).append(text)


def positional(line: CommandLine, settings: Sequence[Setting], words: list[str], *, passwords: bool) -> None:
    """Note the arguments that are no flags, if the program has any."""
    if not words:
        return
    setting = next((setting for setting in settings if setting.help.positional), None)
    if setting is None:
        raise WrongSettings(f"{words[0]!r} is no flag, and no other argument is expected; see --help")
    if not passwords and any(PASSWORD.search(word) for word in words):
        raise WrongSettings(password("an argument", setting.variable))
    line.texts[setting.name] = words


def password(name: str, variable: str) -> str:
    """Say why a URL with a password is refused, without the URL."""
    return f"{name} holds a password in a URL, which every list of processes shows; set {variable} instead"


def unknown(flag: str, flags: dict[str, Setting]) -> str:
    """Say what may have been meant by a flag that there is not."""
    setting = flags.get(f"{flag}-file")
    if setting is not None and setting.secret:
        return (
            f"{flag} would show the secret in every list of processes; give {setting.flag}, or set {setting.variable}"
        )
    import difflib  # only a mistake pays for it

    match = difflib.get_close_matches(flag, [*flags, *QUESTIONS, "--config"], 1)
    return f"{flag} is unknown; " + (f"did you mean {match[0]}?" if match else "see --help")
