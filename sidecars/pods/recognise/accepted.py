"""Our programs' own readers, asked whether they take what a recogniser has written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from sidecars.core.errors import SidecarError
from sidecars.core.settings import load
from sidecars.pods.verdict import Replacement

_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")
# In the place of a value that is not in the manifest: a word, and a number for a port.
_SOME = "1"
_SETTINGS = {
    "log-tailer": ("sidecars.tailer.settings", "TAILER_"),
    "ambassador": ("sidecars.ambassador.settings", "AMBASSADOR_"),
}


def complaint(replacement: Replacement, env: Mapping[str, str | None], *, expands: bool = True) -> str:
    """Give what the program would say of its arguments; nothing when it takes them."""
    args = [expanded(arg, env) if expands else arg for arg in replacement.args]
    values = {name: value for name, value in (*env.items(), *replacement.env.items()) if value is not None}
    try:
        _load(replacement.image, args, values)
    except SidecarError as error:
        return "" if _lacking(error) else str(error)
    return ""


def _lacking(error: BaseException) -> bool:
    """Say whether it is a library that is missing: one that is not installed here is in the image."""
    cause = error.__cause__
    return isinstance(cause, ModuleNotFoundError) or (cause is not None and _lacking(cause))


def expanded(text: str, env: Mapping[str, str | None]) -> str:
    """Put variables in as Kubernetes does; what is not in the manifest has some value."""

    def put(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return (env[match[1]] or _SOME) if match[1] in env else match[0]

    return _REFERENCE.sub(put, text)


def _load(image: str, args: list[str], environ: Mapping[str, str]) -> None:
    if image == "git-syncer":
        from sidecars.syncer import words

        words.load(args, environ)
        return
    if image.startswith("pod-init"):
        from sidecars.init.command import PREFIX, SUBCOMMANDS

        module: Any = import_module(f"sidecars.init.{SUBCOMMANDS[args[0]].module}")
        load(module.Settings, prog=image, prefix=PREFIX, argv=args[1:], environ=environ)
        return
    path, prefix = _SETTINGS[image]
    load(import_module(path).Settings, prog=image, prefix=prefix, argv=args, environ=environ)
