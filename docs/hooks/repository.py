"""Pages link to files beside docs/, as forges show them; the site has each of them as a page, so that it works offline.

A link to ../manifests/tailer/pod.yaml becomes one to a page with that file's text; a Markdown file becomes a page as it
is, a directory a list. Links inside these pages are followed in the same way. mkdocs calls what begins with `on_`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
# Where the site has what lies outside of docs/.
OUTSIDE = "repository"
LINK = re.compile(r"(?<=\]\()([^)\s#:]+)((?:#[^)\s]*)?)(?=\))")
LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".json": "json", ".hcl": "hcl"}
# A directory's files are pages of their own only where they are small and meant for readers.
LISTED = ROOT / "manifests"


def on_files(files: Files, config: Any, **_: object) -> Files:
    """Add a page for each file outside of docs/ that a page links to, and for those that these link to."""
    waiting = [path for file in files.documentation_pages() for path in outside(DOCS / file.src_uri)]
    done: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path not in done:
            done.add(path)
            text = shown(path)
            files.append(File.generated(config, place(path), content=text, inclusion=InclusionLevel.NOT_IN_NAV))
            waiting += outside(path, text)
    return files


def on_page_markdown(markdown: str, page: Any, **_: object) -> str:
    """Let links to files outside lead to their pages, and pipes inside code in tables be what forges make of them."""
    here = page.file.src_uri
    source = DOCS / here
    if here.startswith(f"{OUTSIDE}/"):
        source = next(path for path in (origin(here), origin(here.removesuffix(".md"))) if path.exists())
    rewritten = LINK.sub(lambda link: relinked(link[1], source, here) + link[2], markdown)
    return re.sub(r"(?m)^\|.*", lambda row: re.sub(r"`[^`]*`", _unescaped, row[0]), rewritten)


def _unescaped(code: re.Match[str]) -> str:
    return code[0].replace("\\|", "|")


def relinked(target: str, source: Path, here: str) -> str:
    """Give the link to where the site has what this target is, seen from the page at `here`."""
    path = Path(os.path.normpath(source.parent / target)) if source.is_file() else source / target
    if not path.exists():
        return target
    found = str(path.relative_to(DOCS)) if path.is_relative_to(DOCS) else place(path)
    return os.path.relpath(found, os.path.dirname(here))


def outside(source: Path, text: str = "") -> Iterator[Path]:
    """Give the files outside of docs/ that a page links to."""
    for target, _ in LINK.findall(text or source.read_text(encoding="utf-8")):
        path = Path(os.path.normpath((source.parent if source.is_file() else source) / target))
        if path.exists() and path.is_relative_to(ROOT) and not path.is_relative_to(DOCS):
            yield path


def place(path: Path) -> str:
    """Give the page of a file outside of docs/."""
    inside = f"{OUTSIDE}/{path.relative_to(ROOT)}"
    return inside if path.suffix == ".md" else f"{inside}.md"


def origin(here: str) -> Path:
    """Give the file that a page shows."""
    return ROOT / here.removeprefix(f"{OUTSIDE}/")


def shown(path: Path) -> str:
    """Write the page of a file or directory."""
    name = str(path.relative_to(ROOT))
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    if path.is_dir():
        names = sorted(one.name for one in path.iterdir() if not one.name.startswith(("_", ".")))
        linked = path.is_relative_to(LISTED)
        return f"# {name}/\n\n" + "\n".join(f"- [{one}]({one})" if linked else f"- {one}" for one in names) + "\n"
    return f"# {name}\n\n````{LANGUAGES.get(path.suffix, 'text')}\n{path.read_text(encoding='utf-8')}\n````\n"
