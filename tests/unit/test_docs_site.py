"""The documentation as a site, built as `make docs` does it and complete without a network; the order of its pages."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

import pytest
import yaml

from bench import table
from tests.manifests import documents, house
from tests.unit.test_docs import PROGRAMS, ROOT, blocks

DOCS = ROOT / "docs"
# One order for the page of each image: what it promises, how it is used, and then what an operator looks up.
ORDER = (
    "what is guaranteed",
    "a pod",
    "settings",
    "metrics",
    "exit codes",
    "security",
    "resources",
    "limits",
    "troubleshooting",
)
IN_ORDER = sorted(PROGRAMS)
CONTAINERS = ("initContainers", "containers")
TARGET = re.compile(r'<(?:a|img|link|script)\b[^>]*?(?:href|src)="([^"]*)"')
LOADED = re.compile(r"<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=[\"'](?:https?:)?//[^>]*>")


def hook(name: str) -> ModuleType:
    """What mkdocs reads beside the pages; it lies in no package."""
    spec = importlib.util.spec_from_file_location(name, DOCS / "hooks" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("site")
    # Not with --quiet, for then --strict counts no warning.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(directory)]
    environ = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return directory


def pages(site: Path) -> Iterator[tuple[Path, str]]:
    for page in site.rglob("*.html"):
        yield page, page.read_text()


def test_the_site_is_built_without_a_warning_and_has_every_page(site: Path) -> None:
    written = {page.relative_to(DOCS).with_suffix(".html") for page in DOCS.rglob("*.md")}
    assert written <= {page.relative_to(site) for page, _ in pages(site)}
    assert not (site / "hooks").exists()


def test_every_link_of_the_site_leads_to_a_file_and_a_place_of_it(site: Path) -> None:
    texts = {page: text for page, text in pages(site) if page.name != "404.html"}
    ids = {page: {unescape(one) for one in re.findall(r'\bid="([^"]+)"', text)} for page, text in texts.items()}
    for page, text in texts.items():
        for target in {unescape(one) for one in TARGET.findall(text)}:
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            file = Path(os.path.normpath(page.parent / unquote(path))) if path else page
            assert file.is_file(), f"{page.relative_to(site)}: {target}"
            assert not anchor or unquote(anchor) in ids.get(file, {anchor}), f"{page.relative_to(site)}: {target}"


def test_no_reader_of_the_site_is_told_to_anybody(site: Path) -> None:
    """No font, script, style or picture comes from elsewhere; only links that a reader may follow lead there."""
    for page, text in pages(site):
        assert not LOADED.findall(text), page
    styles = "".join(file.read_text() for file in site.rglob("*.css"))
    assert not re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//", styles)


def test_what_stands_beside_the_documentation_is_a_page_of_the_site(site: Path) -> None:
    manifest = (site / "repository" / "manifests" / "tailer" / "pod.yaml.html").read_text()
    assert "terminationGracePeriodSeconds" in manifest
    assert "manifests/tailer/pod.yaml.html" in (site / "log-tailer.html").read_text()


@pytest.mark.parametrize("name", IN_ORDER)
def test_each_image_has_the_same_sections_in_the_same_order(name: str) -> None:
    text = re.sub(r"^```.*?^```$", "", PROGRAMS[name].page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = [heading.lower() for heading in re.findall(r"(?m)^## (.*)$", text)]
    found = {word: [place for place, heading in enumerate(headings) if word in heading] for word in ORDER}
    assert all(found.values()), found
    places = [place for place, *_ in found.values()]
    assert places == sorted(places), headings


@pytest.mark.parametrize("name", IN_ORDER)
def test_the_settings_on_a_page_are_those_that_are_declared(name: str) -> None:
    glance = hook("glance")
    text = PROGRAMS[name].page.read_text()
    assert text.count(glance.BEGIN) == text.count(glance.END) == 1
    assert glance.filled(text, name) == text, "run: python docs/hooks/glance.py"


@pytest.mark.parametrize("name", IN_ORDER)
def test_security_context_and_resources_on_a_page_are_those_of_the_manifests(name: str) -> None:
    parts = [yaml.safe_load(block.text) for block in blocks("yaml") if block.page == PROGRAMS[name].page]
    given = {key: part[key] for part in parts for key in ("securityContext", "resources") if set(part) == {key}}
    folder = documents.ROOT / ("init" if name == "pod-init" else f"components/{name}")
    read = [one for file in folder.glob("*.yaml") for one in documents.documents(file) if "spec" in one]
    pods = [documents.pod_spec({"kind": "Deployment", **one}) for one in read]
    every = [one for pod in pods if pod for kind in CONTAINERS for one in pod.get(kind, [])]
    found = [one for one in every if one["image"].startswith(f"sidecars/{name}:")]
    assert given["resources"] in [one["resources"] for one in found]
    assert given["securityContext"]["runAsUser"] == house.SIDECARS[name].user
    for one in found:
        assert one["securityContext"].items() <= given["securityContext"].items()


@pytest.mark.parametrize("name", IN_ORDER)
def test_what_a_page_says_was_measured_is_what_the_manifests_are_held_to(name: str) -> None:
    resources = PROGRAMS[name].page.read_text().partition("\n## Resources\n")[2].partition("\n## ")[0]
    idle, most = (size >> 20 for size in (house.SIDECARS[name].resident, house.SIDECARS[name].most))
    assert f"Measured: {idle} MiB idle, {most} MiB at most" in resources


def test_the_benchmarks_are_what_the_results_say() -> None:
    assert table.PAGE.read_text() == table.page(), "run: python -m bench.table"


def test_pictures_are_small() -> None:
    assert all(picture.stat().st_size <= 150_000 for picture in (*DOCS.glob("*.png"), *DOCS.glob("*.svg")))
