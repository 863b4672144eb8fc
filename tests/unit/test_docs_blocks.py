"""Every block of YAML and shell in the documentation is run, or read by what would read it; none is left out.

Whole manifests, compose files and config files are read in test_docs.py too, and its console blocks are run there. Here
stand the parts of pods, the command lines, and the rule that each block has somebody who looks at it.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import io
import itertools
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from sidecars.ambassador.nutcracker import flags
from sidecars.shipper.__main__ import program_words
from tests.manifests import documents, house
from tests.unit.test_docs import PAGES, PROGRAMS, ROOT, Block, blocks, code, commands, named, with_certificates

# Who looks at a block in which language.
LANGUAGES = {
    "yaml": "here, and test_every_yaml_is_what_it_says",
    "console": "test_every_example_says_what_comes_out",
    "sh": "here",
    "dockerfile": "here",
    "shellsession": "tests/servers/test_ambassador_recipes.py, which types it",
    "text": "nobody: it is no command, or a file that another block names",
    "": "nobody: a picture of folders",
}
# Lines that can neither be run nor read, each with its reason; one that is not there any more has to leave this table.
EXCUSED = {
    ("docs/s3-shipper.md", "export"): "test_every_example_says_what_comes_out takes it for its environment",
    ("docs/git-syncer.md", "ls"): "it looks at what the line before fetches from a public host",
    ("docs/convert.md", "helm"): "the chart is the reader's; what convert makes of its output is run",
    ("docs/lint.md", "helm"): "the chart is the reader's; what lint makes of its output is run",
    ("docs/releasing.md", "cosign"): "it asks a public registry",
    ("docs/releasing.md", "docker"): "it asks a public registry",
}
# The keys of a part of a pod, of a part of a container, and those that a service of compose has on these pages.
POD = {"initContainers", "containers", "volumes", "securityContext", "terminationGracePeriodSeconds"}
CONTAINER = {"securityContext", "resources", "startupProbe", "livenessProbe", "lifecycle"}
COMPOSE = {"services", "volumes", "networks", "secrets", "configs"}
SERVICE = {
    "image", "command", "entrypoint", "environment", "volumes", "ports", "user", "depends_on", "healthcheck",
    "network_mode", "read_only", "tmpfs", "cap_drop", "security_opt", "stop_grace_period", "restart", "profiles",
    "build", "secrets", "env_file", "networks", "hostname", "pids_limit", "mem_limit",
}  # fmt: skip
CONFIG = {"sources", "outputs", "listeners", "repositories"}
# What a command line of ours finds in its directory when it is run.
GALLERY = ROOT / "manifests" / "gallery" / "7-fluentd-s3.yaml"
POOL = "alpha:\n  listen: 127.0.0.1:22121\n  redis: true\n  servers:\n   - 127.0.0.1:6379:1\n"
RUN = {"--check-config", "-t"}
VERSIONS = ("1.29", kubernetes_validate.latest_version())


def test_every_block_is_in_a_language_that_somebody_looks_at() -> None:
    fences = re.compile(r"(?m)^ *(?:```|~~~)(.*)$")
    for page in PAGES:
        opened = fences.findall(page.read_text())[::2]
        assert {language.strip() for language in opened} <= LANGUAGES.keys(), page
        told = [block for block in blocks(*LANGUAGES) if block.page == page]
        assert len(told) == len(opened), f"{page}: a block is indented, or not closed"
    typed = {block.page.name for block in blocks("shellsession")}
    assert typed <= {"ambassador.md"}


# --- YAML


@pytest.mark.parametrize("page", sorted({block.page for block in blocks("yaml")}), ids=named)
def test_every_part_of_a_manifest_is_what_it_says(page: Path, tmp_path: Path) -> None:
    for block in (block for block in blocks("yaml") if block.page == page):
        for document in yaml.safe_load_all(block.text):
            assert read(document, block, tmp_path) != [], block.name


def read(document: dict[str, Any], block: Block, directory: Path) -> list[str]:
    """Read one document as what it is; what is returned says who has read it, and is empty if nobody has."""
    keys = set(document)
    if "apiVersion" in keys or keys & CONFIG:
        return ["test_docs.py"]
    if "services" in keys:
        return compose(document)
    if keys <= CONTAINER:
        valid(pod({"containers": [{"name": "app", "image": "example/app:1.0", **document}]}))
        return ["as a part of a container"]
    if keys == {"rules"}:
        valid({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "x"}, **document})
        return ["as a part of a Role"]
    if keys <= POD:
        part_of_a_pod(document, block, directory)
        return ["as a part of a pod"]
    return []


def compose(document: dict[str, Any]) -> list[str]:
    """Read a compose file: its keys, its volumes, who waits for whom, and the health checks that ask one of ours."""
    assert {key for key in document if not key.startswith("x-")} <= COMPOSE
    services = document["services"]
    for service in services.values():
        assert set(service) <= SERVICE
        assert set(service.get("depends_on", {})) <= set(services)
        used = {volume.partition(":")[0] for volume in service.get("volumes", []) if not volume.startswith((".", "/"))}
        assert used <= set(document.get("volumes", {}))
        match service.get("healthcheck", {}).get("test"):
            case ["CMD", program, *arguments] if program in PROGRAMS and arguments != ["healthcheck"]:
                PROGRAMS[program].load(*arguments)
    return ["as a compose file"]


def part_of_a_pod(document: dict[str, Any], block: Block, directory: Path) -> None:
    """Read a part of a pod: by the schema, its volumes, and the arguments of our programs in it."""
    whole = pod(document)
    valid(whole)
    (spec,) = documents.pods([whole])
    mounts = [mount["name"] for one in documents.containers(spec) for mount in one.spec.get("volumeMounts", [])]
    assert set(mounts) <= {volume["name"] for volume in spec.get("volumes", [])}, block.name
    ours = documents.sidecars([whole])
    if block.text.startswith("# before\n"):
        assert not ours, block.name
        return
    assert ours, block.name
    for program, arguments, variables in commands(whole):
        words = program_words(arguments, variables.pop("FLUENTD_ARGS", ""))
        program.load(*(in_place(word, directory) for word in words), **variables)


def in_place(word: str, directory: Path) -> str:
    """Put the files of Secrets and ConfigMaps that an argument names into a directory, and name them there."""

    def placed(path: re.Match[str]) -> str:
        file = directory / path[0].strip("/").replace("/", "-")
        file.write_text(fluentd() if path[1] == "fluentd/etc" else "s3cret")
        return str(file)

    if "/tls/" in word:
        with_certificates(directory)
    return re.sub(r"/(secrets|fluentd/etc)/[\w./-]+", placed, word).replace("/tls/", f"{directory}/")


def fluentd() -> str:
    """A configuration of fluentd that somebody has: the gallery's."""
    (text,) = [one["data"]["fluent.conf"] for one in documents.documents(GALLERY) if one["kind"] == "ConfigMap"]
    return str(text)


def pod(spec: dict[str, Any]) -> dict[str, Any]:
    """Make a whole pod of a part."""
    containers = spec.get("containers", [{"name": "app", "image": "example/app:1.0"}])
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {**spec, "containers": containers}}


def valid(document: dict[str, Any]) -> None:
    """Hold a document against the schemas of the oldest and the newest Kubernetes; once for the same document."""
    _valid(yaml.safe_dump(document))


@functools.cache
def _valid(text: str) -> None:
    for version in VERSIONS:
        kubernetes_validate.validate(yaml.safe_load(text), version, strict=True)


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "migrate").glob("*.md")), ids=named)
def test_each_before_has_its_after(page: Path) -> None:
    marks = [block.text.partition("\n")[0] for block in blocks("yaml") if block.page == page]
    assert marks.count("# before") == marks.count("# after") > 0


@pytest.mark.parametrize("block", [one for one in blocks("yaml") if one.text.startswith("# before\n")], ids=named)
def test_what_people_come_from_is_something_to_convert(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "pod.yaml"
    file.write_text(yaml.safe_dump(pod(yaml.safe_load(block.text))))
    assert importlib.import_module("sidecars.pods.command").convert(["--check", str(file)]) == 1


# --- shell


def typed() -> Iterator[tuple[Path, list[str]]]:
    """Every command of the sh blocks, its page first; those of a pipe are several."""
    for block in blocks("sh"):
        for line in block.text.replace("\\\n", " ").splitlines():
            for command in words(line):
                yield block.page, command


def words(line: str) -> list[list[str]]:
    """The words of each command of a line, without what the shell does with them."""
    split = shlex.split(line, comments=True)
    commands = [list(group) for pipe, group in itertools.groupby(split, lambda word: word == "|") if not pipe]
    return [list(itertools.takewhile(lambda word: word not in ("&", ">"), command)) for command in commands]


def test_every_command_line_is_run_or_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    excused = set()
    (tmp_path / "fluent.conf").write_text(fluentd())
    (tmp_path / "nutcracker.yml").write_text(POOL)
    (tmp_path / "manifests").mkdir()
    for name in ("web.yaml", "pod.yaml", "manifests/web.yaml"):
        (tmp_path / name).write_text((ROOT / "manifests" / "tailer" / "pod.yaml").read_text())
    for page, (command, *arguments) in typed():
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((tmp_path / "web.yaml").read_bytes())))
        place = str(page.relative_to(ROOT))
        if (place, command) in EXCUSED:
            excused.add((place, command))
        elif RUN & set(arguments):
            run(command, arguments, tmp_path)
        else:
            reader(command)(arguments, page)
    assert excused == EXCUSED.keys()


def run(command: str, arguments: list[str], directory: Path) -> None:
    environ = {**os.environ, "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"}
    done = subprocess.run(
        [command, *arguments], cwd=directory, env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"{command} {arguments}\n{done.stderr}"


def reader(command: str) -> Any:
    """Who can say whether the arguments of a command are right."""
    name = os.path.basename(command)
    known: dict[str, Any] = {"make": target, "pip": extras, "python": module, "python3": module, "curl": asked}
    known |= {"kubectl": applied, "sidecars": pods, "nutcracker": lambda arguments, _: flags.parse(arguments)}
    known |= {one: functools.partial(loaded, one) for one in PROGRAMS}
    assert name in known, f"nobody looks at {command}: give it a reader, or a reason in EXCUSED"
    return known[name]


def loaded(name: str, arguments: list[str], _page: Path) -> None:
    PROGRAMS[name].load(*arguments)


def pods(arguments: list[str], _page: Path) -> None:
    """Run `sidecars` on files that are there: what it finds is not asked, only whether it can be asked so."""
    match arguments:
        case ["convert", *others]:
            assert importlib.import_module("sidecars.pods.command").convert(others) in (0, 1)
        case ["lint", *others]:
            assert importlib.import_module("sidecars.pods.lint.command").lint(others) in (0, 1)
        case [word, *_]:
            assert word == "demo"


def target(arguments: list[str], _page: Path) -> None:
    targets = re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text())
    assert {word for word in arguments if "=" not in word} <= set(targets)


def extras(arguments: list[str], _page: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert arguments[0] == "install"
    for extra in re.findall(r"\[([\w,-]+)\]", " ".join(arguments)):
        assert set(extra.split(",")) <= set(project["optional-dependencies"])


def module(arguments: list[str], _page: Path) -> None:
    if arguments[0] == "-m":
        assert importlib.util.find_spec(arguments[1])
    else:
        assert (ROOT / arguments[0]).is_file()


def asked(arguments: list[str], page: Path) -> None:
    """Read a call of one of our doors: on loopback, at the port of the page's program, at a path that it serves."""
    (url,) = [re.sub("^http://", "", word) for word in arguments if re.match(r"(http://)?127\.0\.0\.1:\d+/", word)]
    place, _, path = url.partition("/")
    sidecar = house.SIDECARS[page.stem]
    assert int(place.partition(":")[2]) == sidecar.port
    source = "\n".join(file.read_text() for file in (ROOT / sidecar.module.replace(".", "/")).rglob("*.py"))
    assert path.partition("?")[0].partition("/")[0] in source
    assert "POST" not in arguments or "X-Sidecars: 1" in arguments


def applied(arguments: list[str], _page: Path) -> None:
    for flag, value in itertools.pairwise(arguments):
        assert flag != "-f" or (ROOT / value).exists()


@pytest.mark.parametrize("block", blocks("dockerfile"), ids=named)
def test_every_dockerfile_builds_upon_one_of_ours(block: Block) -> None:
    assert re.match(rf"FROM sidecars/({'|'.join(PROGRAMS)}):{house.__version__}\n", block.text)


def test_every_command_of_ours_in_a_line_of_text_can_be_read() -> None:
    """Those of tables and sentences, too: `pod-init wait tcp://db:5432`."""
    pages = [ROOT / "docs" / "pod-init.md", *(ROOT / "docs" / "migrate").glob("*.md")]
    texts = [text.replace("\\|", "|") for page in pages for text in code(page)]
    asked = [words(text)[0] for text in texts if re.match(rf"({'|'.join(PROGRAMS)}) ", text)]
    complete = [line for line in asked if line[0] != "pod-init" or len(line) > 2]
    assert len(complete) > 45
    for command, *arguments in complete:
        PROGRAMS[command].load(*arguments)
