"""pod-init render: variables and secrets put into templates, as envsubst does, but only those that are meant."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Literal

from sidecars.core.errors import SidecarError, WrongSettings
from sidecars.core.log import log
from sidecars.core.settings import Help
from sidecars.init.settings import Common
from sidecars.init.tree import checked_mode
from sidecars.init.writing import write

WHAT, WITH = "What to render", "With which values"

Escape = Literal["none", "json", "yaml", "shell", "nginx"]

# As envsubst reads them: $NAME and ${NAME}; and, as a shell, ${NAME:-default} and ${NAME-default}.
_REFERENCE = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)(?:(:?-)([^{}]*))?\})")


class Settings(Common, frozen=True, kw_only=True):
    """Put variables and secrets into templates: $NAME, ${NAME} and ${NAME:-default}, as envsubst has.

    Only what --vars and --only name is replaced, so that nginx keeps its $uri; one of these that is not set is an
    error. TEMPLATE:OUT may be two directories; and both may be the same file.

        pod-init render /templates/nginx.conf:/etc/nginx/nginx.conf --only 'APP_*' --escape nginx
        pod-init render /templates:/config --vars DB_HOST,DB_PASSWORD --secret DB_PASSWORD=/secrets/db/password
    """

    templates: Annotated[
        tuple[str, ...], Help("From which file to which: files, or directories.", WHAT, "TEMPLATE:OUT", positional=True)
    ] = ()
    mode: Annotated[str, Help("Permissions of what is written.", WHAT, "OCTAL")] = "0640"
    vars: Annotated[tuple[str, ...], Help("Variables to replace, by name.", WITH, "NAME")] = ()
    only: Annotated[tuple[str, ...], Help("Variables to replace, by pattern: APP_*.", WITH, "GLOB")] = ()
    secret: Annotated[
        tuple[str, ...], Help("A variable whose value is in a file; it counts as named.", WITH, "NAME=PATH")
    ] = ()
    secrets: Annotated[
        str | None, Help("A directory whose files are named as the variables they hold.", WITH, "DIR", none="")
    ] = None
    escape: Annotated[
        Escape,
        Help(
            "Make each value fit: between the double quotes of JSON or YAML, as a word of a shell, in nginx's quotes.",
            WITH,
        ),
    ] = "none"

    def __post_init__(self) -> None:
        """Check what no single setting can say; WrongSettings."""
        if not self.templates:
            raise WrongSettings(
                "render needs TEMPLATE:OUT: pod-init render /templates/app.conf:/config/app.conf --only 'APP_*'"
            )
        for text in self.templates:
            if not all(text.partition(":")[::2]):
                raise WrongSettings(f"{text!r} is no TEMPLATE:OUT; write both paths with a colon between them")
        for text in self.secret:
            if not all(text.partition("=")[::2]):
                raise WrongSettings("--secret needs NAME=PATH, the path being that of the file that holds it")
        if not (self.vars or self.only or self.secret or self.secrets):
            raise WrongSettings("say which variables to replace: --vars DB_HOST,DB_PORT, or --only 'APP_*'")
        checked_mode("--mode", self.mode)

    def names(self) -> list[str]:
        """Give the names of --vars, whether they came in one word with commas or in several."""
        return [name.strip() for text in self.vars for name in text.split(",") if name.strip()]

    def patterns(self) -> list[str]:
        """Give the patterns of --only, likewise."""
        return [name.strip() for text in self.only for name in text.split(",") if name.strip()]


def run(settings: Settings) -> None:
    """Render each template. All are rendered before the first is written. Raises SidecarError."""
    values = Values(settings)
    rendered = [
        (out, render(_read(template), values, settings.escape, template))
        for text in settings.templates
        for template, out in _files(*text.split(":", 1))
    ]
    for name in sorted(set(settings.names()) - values.used):
        log.warning("variable in no template", name=name)
    for out, text in rendered:
        write(os.path.abspath(out), text.encode("utf-8", "surrogateescape"), checked_mode("--mode", settings.mode) or 0)


class Values(Mapping[str, str]):
    """The variables that are meant, with their values: a mapping whose `in` says whether a name is meant."""

    def __init__(self, settings: Settings) -> None:
        self._names, self._patterns = settings.names(), settings.patterns()
        self._files = dict(text.split("=", 1) for text in settings.secret)
        if settings.secrets is not None:
            self._files |= {name: os.path.join(settings.secrets, name) for name in _names(settings.secrets)}
        self.used: set[str] = set()

    def __contains__(self, name: object) -> bool:
        known = name in self._files or name in self._names
        return known or any(fnmatch.fnmatchcase(str(name), pattern) for pattern in self._patterns)

    def __getitem__(self, name: str) -> str:
        self.used.add(name)
        if name in self._files:
            return _read(self._files[name]).removesuffix("\n")
        return os.environ[name]  # The environment is data here.

    def __iter__(self) -> Iterator[str]:
        return iter({*self._files, *self._names})

    def __len__(self) -> int:
        return len({*self._files, *self._names})


def render(text: str, values: Mapping[str, str], escape: Escape = "none", template: str = "") -> str:
    """Put values into a text; what is not in them stays as it is. Raises SidecarError for one that has no value.

    render("listen ${PORT}; try $uri", {"PORT": "80"}) -> "listen 80; try $uri"
    """
    missing: list[str] = []

    def replaced(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in values:
            return match[0]
        value = _value(values, name)
        if value is None or (value == "" and match[3] == ":-"):
            if match[3] is None and value is None:
                missing.append(f"{name} in line {text.count(chr(10), 0, match.start()) + 1}")
            value = match[4] or ""
        return escaped(name, value, escape)

    rendered = _REFERENCE.sub(replaced, text)
    if missing:
        raise SidecarError(
            f"{template or 'the template'} needs variables that are not set: {', '.join(missing)}; set them, or write "
            "${NAME:-default}"
        )
    return rendered


def _value(values: Mapping[str, str], name: str) -> str | None:
    try:
        return values[name]
    except KeyError:
        return None


_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def _in_hex(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


_ESCAPES: dict[str, Callable[[str], str]] = {
    "none": str,
    "json": lambda value: json.dumps(value, ensure_ascii=False)[1:-1],
    # A double-quoted scalar of YAML understands all that JSON escapes, and folds more than that: NEL, LS and PS.
    "yaml": lambda value: _UNPRINTABLE.sub(_in_hex, json.dumps(value, ensure_ascii=False)[1:-1]),
    "shell": shlex.quote,
    "nginx": lambda value: value.replace("\\", "\\\\").replace('"', '\\"').replace("'", "\\'"),
}


def escaped(name: str, value: str, escape: Escape) -> str:
    """Make a value fit where it is put.

    Raises SidecarError where nothing can: nginx has no way to write a dollar, JSON and YAML are text, and no shell's
    word and no configuration holds a NUL.
    """
    if escape in ("json", "yaml") and not _is_text(value):
        raise SidecarError(
            f"{name} has a value that is not UTF-8, which {escape.upper()} cannot hold; put it in base64"
        )
    if escape in ("shell", "nginx") and "\0" in value:
        raise SidecarError(f"{name} has a NUL in its value, which nothing can hold there; put it in base64")
    if escape == "nginx" and "$" in value:
        raise SidecarError(
            f"{name} has a $ in its value, which nginx's configuration cannot hold; use `geo` or `map` there"
        )
    return _ESCAPES[escape](value)


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _files(template: str, out: str) -> Iterator[tuple[str, str]]:
    """Give each template with its place: one, or all that a directory has, but for what Kubernetes hides there."""
    if not os.path.isdir(template):
        into = out.endswith("/") or os.path.isdir(out)
        yield template, os.path.join(out, os.path.basename(template)) if into else out
        return
    for name in _names(template):
        yield os.path.join(template, name), os.path.join(out, name)


def _names(folder: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if os.path.isfile(os.path.join(folder, name)))
    except OSError as error:
        raise SidecarError(f"{folder} cannot be read: {error.strerror}; is it mounted?") from error


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            return file.read()
    except OSError as error:
        raise SidecarError(f"{path} cannot be read: {error.strerror}; is it mounted?") from error
