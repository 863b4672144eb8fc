"""The Ruby that fluentd's configuration may hold in `#{...}`: a few forms that are read, not run."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping

from sidecars.core.errors import WrongSettings

_QUOTED = r"""(?:'[^'\\#]*'|"[^"\\#]*")"""
_ENTRY = re.compile(rf"ENV\[\s*(?P<name>{_QUOTED})\s*\](?:\s*\|\|\s*(?P<other>{_QUOTED}|use_nil|use_default))?")
_FETCH = re.compile(rf"ENV\.fetch\(\s*(?P<name>{_QUOTED})\s*(?:,\s*(?P<other>{_QUOTED})\s*)?\)")
_OMITTED = ("use_nil", "use_default")
_WORDS = ("hostname", "Socket.gethostname", "worker_id", *_OMITTED)
_FORMS = """ENV['X'], ENV['X'] || 'default', ENV['X'] || use_default, ENV.fetch('X'), ENV.fetch('X', 'default'), """
EXPECTED = f"{_FORMS}{', '.join(_WORDS)}"


def evaluated(code: str, environ: Mapping[str, str], unset: list[str]) -> str | None:
    """Give the text of what stands between the braces; None when the parameter is to be as if it were not given.

        ENV['HOME'] -> /root

    A variable that is not set is an empty text, as in Ruby; its name is added to `unset`. Raises WrongSettings for any
    other Ruby, and for a variable that must be set.
    """
    code = code.strip()
    if code in _WORDS:
        return _word(code)
    if found := _ENTRY.fullmatch(code):
        return _entry(found["name"][1:-1], found["other"], environ, unset)
    if found := _FETCH.fullmatch(code):
        return _fetched(found["name"][1:-1], found["other"], environ)
    raise WrongSettings(f"#{{...}} holds Ruby that is not run here; only these are known: {EXPECTED}")


def _word(code: str) -> str | None:
    if code in _OMITTED:
        return None
    return "0" if code == "worker_id" else socket.gethostname()


def _entry(name: str, other: str | None, environ: Mapping[str, str], unset: list[str]) -> str | None:
    if name in environ:
        return environ[name]
    if other in _OMITTED:
        return None
    if other is None:
        unset.append(name)
        return ""
    return other[1:-1]


def _fetched(name: str, other: str | None, environ: Mapping[str, str]) -> str:
    if name not in environ and other is None:
        raise WrongSettings(f"the variable {name} is not set: set it, or give a default as ENV.fetch({name!r}, 'text')")
    return environ[name] if other is None else environ.get(name, other[1:-1])
