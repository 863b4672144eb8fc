"""What differs from one delivery by the forward protocol to the next: the tag that it has."""

from __future__ import annotations

import os
import re

from sidecars.core.errors import WrongSettings

PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


def check_tag(template: str) -> None:
    """Raise WrongSettings for an empty tag, and for a placeholder that `tag_for` does not know."""
    if not template:
        raise WrongSettings("a forward output's tag is empty; give tag=TAG")
    for name in PLACEHOLDER.findall(template):
        if name not in ("pod", "namespace", "file"):
            raise WrongSettings(
                f"tag {template!r} holds {{{name}}}, expected {{pod}}, {{namespace}}, {{file}} or plain text"
            )


def tag_for(template: str, *, path: str, pod: str | None, namespace: str | None) -> str:
    """Fill in a tag.

        tag_for("app.{pod}.{file}", path="/logs/access.log", pod="web-0", namespace=None) -> "app.web-0.access.log"

    {file} is the file's base name; bytes in it that are not UTF-8 become U+FFFD, for a tag is text. Raises
    WrongSettings when the tag asks for a pod or namespace that is not known.
    """
    file = os.fsencode(os.path.basename(path)).decode(errors="replace")
    values = {"pod": pod, "namespace": namespace, "file": file}

    def known(match: re.Match[str]) -> str:
        value = values[match[1]]
        if not value:
            variable = f"POD_{'NAME' if match[1] == 'pod' else 'NAMESPACE'}"
            raise WrongSettings(
                f"tag {template!r} needs {match[0]}, but {variable} is not set; set it by the downward API"
            )
        return value

    return PLACEHOLDER.sub(known, template)
