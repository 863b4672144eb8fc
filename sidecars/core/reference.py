"""What people read about the settings: the help, the reference page and the JSON Schema, made from the declaration.

    python -m sidecars.core.reference sidecars.tailer.settings docs/reference

writes docs/reference/log-tailer.md and log-tailer.schema.json. The module has Settings, PROG and PREFIX; or, instead of
Settings, SUBCOMMANDS: their names, and in which module beside it each has its Settings. Then there is one page for all.
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from inspect import getdoc
from itertools import groupby
from typing import Any, Literal, get_args, get_origin

import msgspec

from sidecars.core.declaration import (
    Part,
    Setting,
    declared,
    element,
    holds,
    metavar,
    nested,
    optional,
    sequence,
    struct,
)
from sidecars.core.units import Address, Bytes, Seconds, Secret

WIDTH, COLUMN = 80, 30

LISTS = "A flag of a list gives one element; repeat it for more."
HOW = (
    "A flag wins over its variable, that over the config file, and that over the default. "
    f"{LISTS} In a variable a list is separated by newlines or commas, or is JSON that begins with [. "
    "An empty variable counts as not set."
)
QUESTIONS = {
    "--config FILE": "Read settings from a YAML, JSON or TOML file; ${VAR} in it is put in from the environment.",
    "--check-config": "Say whether the settings are valid, and exit: 0 or 2.",
    "--version": "Say the version, and exit.",
    "--help, -h": "Say this, and exit.",
}

VARIABLE: dict[str, object] = {"type": "string", "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}"}
SCHEMAS: dict[Any, list[dict[str, object]]] = {
    bool: [{"type": "boolean"}, {"enum": ["true", "false", "yes", "no", "on", "off"]}],
    int: [{"type": "integer"}],
    float: [{"type": "number"}],
    str: [{"type": "string"}],
    Secret: [VARIABLE],
    Seconds: [
        {"type": "number", "minimum": 0},
        {"type": "string", "pattern": r"^([0-9.]+(ns|us|µs|ms|s|m|h|d))+$|^[0-9.]+$"},
    ],
    Bytes: [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": r"^[0-9.]+ ?[kKmMgGtT]?[iI]?[bB]?$"}],
    Address: [{"type": "string", "pattern": r"^(\[[0-9a-fA-F:.]+(%[^\]]+)?\]|[^:/\s]*):[0-9]{1,5}$"}],
}


def usage(kind: type[msgspec.Struct], prog: str, prefix: str) -> str:
    """Write the answer to --help, for a terminal of 80 columns."""
    settings = [setting for setting in declared(kind, prefix) if setting.flag or setting.variable]
    lines = [f"usage: {prog} [FLAG...]" + "".join(f" {given(one)}..." for one in settings if one.help.positional), ""]
    lines += paragraphs(kind)
    for group, members in grouped(settings):
        lines += [f"{group}:", *(line for one in members for line in entry(given(one), explained(one))), ""]
    lines += ["Questions and the config file:", *(line for item in QUESTIONS.items() for line in entry(*item)), ""]
    return "\n".join([*lines, *textwrap.wrap(HOW, WIDTH)])


def paragraphs(kind: type[msgspec.Struct]) -> Iterator[str]:
    """Wrap what the struct's docstring says; an indented paragraph, such as an example, stays as it is."""
    for paragraph in (getdoc(kind) or "").split("\n\n"):
        yield from paragraph.splitlines() if paragraph.startswith(" ") else textwrap.wrap(paragraph, WIDTH)
        yield ""


def grouped(settings: Iterable[Setting]) -> Iterator[tuple[str, list[Setting]]]:
    """Put the settings of one group together, the groups in the order in which they are first named."""
    settings = list(settings)
    order = list(dict.fromkeys(setting.help.group for setting in settings))
    ranked = sorted(settings, key=lambda setting: order.index(setting.help.group))
    for group, members in groupby(ranked, key=lambda setting: setting.help.group):
        yield group, list(members)


def given(setting: Setting) -> str:
    """Show how a setting is given: --grace SECONDS, --once, PATH, POD_NAME."""
    if setting.help.variable:
        return setting.variable
    value = setting.help.metavar or metavar(setting.kind)
    if setting.help.positional:
        return value
    return setting.flag if holds(setting.kind) is bool else f"{setting.flag} {value}"


def explained(setting: Setting) -> str:
    """Say what a setting does, its default, and its variable."""
    parts = [setting.help.text]
    if default := default_text(setting):
        parts.append("(required)" if setting.required else f"(default: {default})")
    if setting.variable and not setting.help.variable:
        parts.append(f"[{' or '.join(setting.variables)}]")
    return " ".join(parts)


def default_text(setting: Setting) -> str:
    """Write a default as an operator would; nothing where it is none, such as an empty list."""
    if setting.required or setting.help.default:
        return "required" if setting.required else setting.help.default
    default = setting.default
    if default is None:
        return setting.help.none if not setting.secret and not setting.help.variable else ""
    if isinstance(default, (tuple, list)):
        return ", ".join(str(item) for item in default)
    return str(default).lower() if isinstance(default, bool) else str(default)


def entry(name: str, text: str) -> list[str]:
    """Set a flag and its text in two columns."""
    lines = textwrap.wrap(text, WIDTH - COLUMN, break_on_hyphens=False)
    if len(name) > COLUMN - 4:
        return [f"  {name}", *(" " * COLUMN + line for line in lines)]
    return [f"  {name}".ljust(COLUMN) + lines[0], *(" " * COLUMN + line for line in lines[1:])]


KEYS = "A key of the config file is the flag without its dashes, with `_` for `-`: `--log-level` is `log_level`."


def page(kind: type[msgspec.Struct], prog: str, prefix: str) -> str:
    """Write the reference page, in Markdown."""
    settings = declared(kind, prefix)
    lines = [f"# {prog}: settings", "", *paragraphs(kind), HOW.replace("[", "`[`"), "", KEYS, ""]
    lines += [*tables(settings, "##"), *questions()]
    for one in (one for one in settings if nested(one.kind)):
        lines += ["", f"## `{one.key}` in the config file", "", one.help.text, "", *part(one.kind, one.key)]
    return "\n".join(lines) + "\n"


def tables(settings: Iterable[Setting], heading: str) -> Iterator[str]:
    """Write a table for each group of settings."""
    for group, members in grouped(one for one in settings if one.flag or one.variable):
        yield from (f"{heading} {group}", "", "| setting | variable | default | what it does |")
        yield "| --- | --- | --- | --- |"
        yield from (row(code(given(one)), names(one), defaulting(one), one.help.text) for one in members)
        yield ""


def questions() -> list[str]:
    """Write the table of what every program can be asked."""
    head = ["## Questions and the config file", "", "| flag | what it does |", "| --- | --- |"]
    return [*head, *(row(code(flag), text) for flag, text in QUESTIONS.items())]


def pages(kinds: Mapping[str, type[msgspec.Struct]], prog: str, prefix: str) -> str:
    """Write one page for a program whose subcommands have settings of their own; what each has is told once."""
    every = {name: declared(kind, prefix) for name, kind in kinds.items()}
    texts = [{(one.flag, one.help.text) for one in settings} for settings in every.values()]
    shared = set.intersection(*texts)
    links = ", ".join(f"[{name}](#{name})" for name in kinds)
    about = f"Of {links}; what all of them have is at the end."
    lines = [f"# {prog}: settings", "", about, "", HOW.replace("[", "`[`"), "", KEYS, ""]
    for name, settings in every.items():
        own = [one for one in settings if (one.flag, one.help.text) not in shared]
        lines += [f"## {name}", "", *paragraphs(kinds[name]), *tables(own, "###")]
    common = [one for one in next(iter(every.values())) if (one.flag, one.help.text) in shared]
    return "\n".join([*lines, *tables(common, "##"), *questions()]) + "\n"


def defaulting(setting: Setting) -> str:
    """Write a default in a table: a value as code, an explanation as text."""
    if nested(setting.kind) and not sequence(setting.kind) and not setting.required:
        return ""  # what is in it stands in a table of its own
    text = default_text(setting)
    return text if setting.required or " " in text else code(text)


def names(setting: Setting) -> str:
    """List the variables of a setting that its name does not say already."""
    return "" if setting.help.variable else ", ".join(code(name) for name in setting.variables)


def part(kind: Any, place: str) -> list[str]:
    """Write the tables of a mapping in the config file, and of those inside it."""
    place += "[]" * sequence(kind)
    settings = declared(element(kind) if sequence(kind) else holds(kind))
    lines = ["| key | value | default | what it does |", "| --- | --- | --- | --- |"]
    inside: list[str] = []
    for one in settings:
        value = "mapping" if nested(one.kind) else one.help.metavar or metavar(one.kind)
        value = f"list of {value}" if sequence(one.kind) else value
        keys = " or ".join(code(f"{place}.{key}") for key in one.keys)
        lines.append(row(keys, code(value), defaulting(one), one.help.text))
        if nested(one.kind):
            inside += ["", *part(one.kind, f"{place}.{one.key}")]
    return lines + inside


def row(*cells: str) -> str:
    """Write one row of a table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def code(text: str) -> str:
    """Set a text as code, if there is one."""
    return f"`{text}`" if text else ""


def schema(kind: type[msgspec.Struct], prog: str) -> dict[str, object]:
    """Make the JSON Schema of the config file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"{prog} config file",
        **shape(kind),
    }


def shape(kind: Any) -> dict[str, object]:
    """Make the schema of one type."""
    only = holds(kind)
    if sequence(only):
        return {"type": "array", "items": shape(element(only))}
    if struct(only):
        return {"type": "object", "properties": dict(properties(only)), "required": required(only), **CLOSED}
    words: list[dict[str, object]] = [{"enum": list(get_args(only))}]
    choices = words if get_origin(only) is Literal else SCHEMAS.get(only, SCHEMAS[str])
    choices = choices if VARIABLE in choices or SCHEMAS[str] == choices else [*choices, VARIABLE]
    return choices[0] if len(choices) == 1 else {"anyOf": choices}


CLOSED = {"additionalProperties": False}


def properties(kind: type[msgspec.Struct]) -> Iterator[tuple[str, dict[str, object]]]:
    """Make the schema of each key of a mapping."""
    for setting in declared(kind):
        for key in setting.keys:
            found: dict[str, object] = shape(setting.kind) if key == setting.key else {"type": "string"}
            words = [setting.help.none] if setting.help.none and not setting.secret else []
            if optional(setting.kind):
                found = {"anyOf": [found, {"enum": [None, *words]}]}
            yield key, {"description": setting.help.text, **found}


def required(kind: type[msgspec.Struct]) -> list[str]:
    """List the keys that a mapping inside the file must have; those of the file itself may come from elsewhere."""
    return [setting.key for setting in declared(kind) if setting.required and issubclass(kind, Part)]


def files(module: str) -> dict[str, str]:
    """Make the files of the reference of a program, by the dotted name of the module with its settings."""
    found = import_module(module)
    if hasattr(found, "SUBCOMMANDS"):
        beside = module.rpartition(".")[0]
        kinds = {name: import_module(f"{beside}.{one.module}").Settings for name, one in found.SUBCOMMANDS.items()}
        return {f"{found.PROG}.md": pages(kinds, found.PROG, found.PREFIX)}
    return {
        f"{found.PROG}.md": page(found.Settings, found.PROG, found.PREFIX),
        f"{found.PROG}.schema.json": json.dumps(schema(found.Settings, found.PROG), indent=2) + "\n",
    }


if __name__ == "__main__":
    for name, content in files(sys.argv[1]).items():
        with open(f"{sys.argv[2]}/{name}", "w", encoding="utf-8") as file:
            file.write(content)
