"""The command `sidecars`: for people, and not for pods."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

USAGE = """\
usage: sidecars COMMAND

  convert FILE...   put these sidecars in the place of the shell loops and images that they replace, in manifests
                    and compose files; the result goes to stdout, and why goes to stderr
                    --check, --diff, --in-place; sidecars convert --help has all
  lint FILE...      say what else is wrong with manifests: untagged images, waits that never end, ...
                    --explain ID; sidecars lint --help has all

  demo              show the suite on this machine, without containers (sidecars demo --help)
  demo app          only the application that writes the logs (sidecars demo app --help)
  demo git          only the git repository that gets a commit every few seconds (sidecars demo git --help)
  demo web          only a web server of a folder (sidecars demo web --help)
  demo api          only an API that fails now and then (sidecars demo api --help)
  demo caller       only an application that calls it (sidecars demo caller --help)
  demo objects      what s3-shipper has put into the demo's bucket (sidecars demo objects --help)

  --version  --help
"""


def main() -> None:
    """Run the command that the first word names; each imports what it needs itself, for the rest may not be there."""
    match sys.argv[1:]:
        case ["--version"]:
            from sidecars import __version__

            print(f"sidecars {__version__}")
        case ["--help" | "-h"]:
            print(USAGE, end="")
        case []:
            _refuse(f"which command?\n\n{USAGE}")
        case [word, *_] if word not in COMMANDS:
            from sidecars.core.values import nearest

            _refuse(f"there is no command {word!r}; {nearest(word, COMMANDS)}")
        case [word, *arguments]:
            _run(word, arguments)


def _run(word: str, arguments: Sequence[str]) -> None:
    try:
        COMMANDS[word](arguments)
    except ModuleNotFoundError as error:
        if (error.name or "sidecars").startswith("sidecars"):
            raise
        _refuse(f"{word} needs {error.name}: pip install 'sidecars[{'demo' if word == 'demo' else 'pods'}]'")


def _convert(arguments: Sequence[str]) -> None:
    from sidecars.pods.command import convert

    raise SystemExit(convert(arguments))


def _lint(arguments: Sequence[str]) -> None:
    from sidecars.pods.lint.command import lint

    raise SystemExit(lint(arguments))


def _demo(arguments: Sequence[str]) -> None:
    from sidecars.demo.__main__ import demo

    demo(arguments)


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {"convert": _convert, "lint": _lint, "demo": _demo}


def _refuse(message: str) -> None:
    print(f"sidecars: {message}", file=sys.stderr)
    raise SystemExit(2)


if __name__ == "__main__":
    main()
