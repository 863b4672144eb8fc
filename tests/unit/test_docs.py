"""The pages for people say what is so: links, manifests, flags, targets, examples, metrics and messages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from sidecars.core.declaration import declared
from sidecars.core.settings import load
from sidecars.tailer.settings import PREFIX, PROG, Settings
from tests.manifests.documents import containers, pods
from tests.unit.core.running import Running

ROOT = Path(__file__).parents[2]
HIDDEN = {"build", "dist"}
PAGES = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not any(part.startswith(".") or part in HIDDEN for part in path.relative_to(ROOT).parts)
)
TAILER = ROOT / "docs" / "log-tailer.md"
# Flags of every program of ours that are questions and no settings.
NO_SETTINGS = {"--config", "--check-config", "--version", "--help"}


class Block(NamedTuple):
    """A fenced block of a page."""

    page: Path
    language: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {self.text.strip().splitlines()[0][:40]}"


def blocks(*languages: str) -> list[Block]:
    found = [
        Block(page, *match)
        for page in PAGES
        for match in re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    ]
    return [block for block in found if block.language in languages]


def named(value: Block | Path) -> str:
    return value.name if isinstance(value, Block) else str(value.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, by GitHub's rule."""
    headings = re.findall(r"(?m)^#+ (.*)$", prose(page))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def code(page: Path) -> list[str]:
    """What stands between backticks in a line."""
    return re.findall(r"`([^`\n]+)`", prose(page))


def table(page: Path, first: str) -> Iterator[list[str]]:
    """The rows of the table whose first column has this title."""
    _, _, rest = page.read_text().partition(f"| {first} |")
    for line in rest.splitlines()[2:]:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_make_target_exists(page: Path) -> None:
    texts = code(page) + [block.text for block in blocks("sh") if block.page == page]
    used = {target for text in texts for target in re.findall(r"(?m)^make ([a-z][a-z-]*)", text)}
    assert used <= set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_flag_and_variable_of_log_tailer_exists(page: Path) -> None:
    settings = list(declared(Settings, PREFIX))
    flags = {setting.flag for setting in settings} | {f"{setting.flag}-file" for setting in settings} | NO_SETTINGS
    used = {flag for text in code(page) for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)}
    assert used <= flags
    variables = {name for setting in settings for name in setting.variables}
    assert set(re.findall(r"\bTAILER_[A-Z_]+\b", page.read_text())) <= variables


@pytest.mark.parametrize("block", blocks("yaml"), ids=named)
def test_every_yaml_is_what_it_says(block: Block, tmp_path: Path) -> None:
    for document in yaml.safe_load_all(block.text):
        if "apiVersion" in document:
            for version in ("1.29", kubernetes_validate.latest_version()):
                kubernetes_validate.validate(document, version, strict=True)
        for arguments in commands(document):
            tailer(*arguments)
        if "sources" in document or "outputs" in document:
            (tmp_path / "config.yaml").write_text(block.text)
            tailer("--config", str(tmp_path / "config.yaml"))


def commands(document: dict[str, Any]) -> Iterator[list[str]]:
    """The arguments of each log-tailer in a manifest or compose file; at least one."""
    if "apiVersion" in document:
        found = [each.spec["args"] for pod in pods([document]) for each in containers(pod) if each.tails]
    elif "services" in document:
        found = [each["command"] for each in document["services"].values() if "/log-tailer" in each["image"]]
    else:
        return
    assert found
    yield from found


def tailer(*arguments: str) -> Settings:
    """The settings that log-tailer makes of these arguments; raises WrongSettings."""
    return load(Settings, prog=PROG, prefix=PREFIX, argv=arguments, environ={})


def test_every_example_says_what_comes_out(tmp_path: Path) -> None:
    environ = {
        **os.environ,
        "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}",
        "TAILER_ADMIN": "off",
        "TAILER_STATE_DIR": "off",
    }
    examples = [example for block in blocks("console") for example in re.split(r"(?m)^\$ ", block.text)[1:]]
    assert len(examples) > 5
    for example in examples:
        command, _, expected = example.partition("\n")
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, timeless(done.stdout).rstrip("\n")) == (0, timeless(expected).rstrip("\n")), command


def timeless(text: str) -> str:
    return re.sub(r'"time":"[^"]*"', '"time":"..."', text)


class Tailer(Running):
    """log-tailer as its operator starts it."""

    command = (sys.executable, "-m", "sidecars.tailer")
    prefix = PREFIX


def test_the_metrics_are_those_of_the_program(tmp_path: Path) -> None:
    told = {name.strip("`"): (kind, labels) for name, kind, labels, _ in table(TAILER, "metric")}
    with Tailer(str(tmp_path), environ={"TAILER_ADMIN": "127.0.0.1:0", "TAILER_STATE_DIR": "off"}) as process:
        process.wait_for("watching")
        status, text = process.ask("/metrics")
    assert status == 200
    families = [
        family
        for family in text_string_to_metric_families(text)
        if not family.name.startswith(("process_", "python_")) and not family.name.endswith("_created")
    ]
    shown = {f"{family.name}_total" if family.type == "counter" else family.name: family for family in families}
    assert told.keys() == shown.keys()
    for name, family in shown.items():
        kind, labels = told[name]
        assert kind == family.type, name
        for sample in family.samples:
            if not sample.name.endswith("_created"):
                assert set(labels.split(", ")) - {""} == set(sample.labels), name


def test_every_message_in_the_troubleshooting_table_is_one_of_the_program() -> None:
    source = "\n".join(path.read_text() for path in (ROOT / "sidecars").rglob("*.py"))
    # A text that goes on in the next line of the source.
    source = re.sub(r'"\s*\n\s*f?"', "", source)
    messages = [cell for cell, *_ in table(TAILER, "message")]
    texts = [match[1] for cell in messages if (match := re.match(r"`([^`]+)`", cell))]
    assert len(texts) > 15
    assert [text for text in texts if text not in source] == []
