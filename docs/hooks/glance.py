"""The table of settings on each image's page, made from the declaration: which there are, by purpose, and defaults.

`python docs/hooks/glance.py` writes it into the pages that have its marks; a test compares. What each setting does is
on the reference page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from sidecars.core.declaration import Setting, declared
from sidecars.core.reference import code, default_text, given, grouped, row

DOCS = Path(__file__).parents[1]
MODULES = {
    "log-tailer": "sidecars.tailer.settings",
    "log-adapter": "sidecars.adapter.settings",
    "s3-shipper": "sidecars.shipper.settings",
    "git-syncer": "sidecars.syncer.settings",
    "ambassador": "sidecars.ambassador.settings",
    "pod-init": "sidecars.init.command",
}
BEGIN = "<!-- settings: made by docs/hooks/glance.py -->"
END = "<!-- end of settings -->"
MARKED = re.compile(rf"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)


def filled(text: str, name: str) -> str:
    """Put the table between the marks of a page."""
    return MARKED.sub(lambda _: f"{BEGIN}\n\n{table(name)}\n\n{END}", text)


def table(name: str) -> str:
    """Make the table of a program: a row for each group of settings, or for each subcommand."""
    module = import_module(MODULES[name])
    if hasattr(module, "SUBCOMMANDS"):
        beside = MODULES[name].rpartition(".")[0]
        kinds = {one: import_module(f"{beside}.{which.module}").Settings for one, which in module.SUBCOMMANDS.items()}
        rows = [(code(f"{name} {one}"), declared(kind, module.PREFIX)) for one, kind in kinds.items()]
        head = row("subcommand", "settings, and their defaults")
    else:
        rows = list(grouped(declared(module.Settings, module.PREFIX)))
        head = row("for", "settings, and their defaults")
    lines = [head, row("---", "---")]
    return "\n".join([*lines, *(row(title, ", ".join(shown(members))) for title, members in rows)])


def shown(settings: list[Setting]) -> Iterator[str]:
    """Write each setting that a flag or variable gives, with its default if it has one."""
    for one in settings:
        if one.flag or one.variable:
            default = default_text(one)
            yield code(given(one).split(" ")[0]) + (f" ({default})" if default not in ("", "off", "false") else "")


if __name__ == "__main__":
    for name in MODULES:
        page = DOCS / f"{name}.md"
        page.write_text(filled(page.read_text(encoding="utf-8"), name), encoding="utf-8")
