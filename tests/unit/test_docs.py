"""The pages for people say what is so: links, manifests, flags, targets, examples, metrics and messages."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import trustme
import yaml
from prometheus_client.parser import text_string_to_metric_families

from sidecars.adapter import settings as adapter
from sidecars.ambassador import settings as ambassador
from sidecars.core.declaration import Setting, declared
from sidecars.core.settings import load
from sidecars.init import command as init
from sidecars.pods import settings as pods
from sidecars.pods.lint import settings as lint
from sidecars.shipper import settings as shipper
from sidecars.shipper.points import Point
from sidecars.syncer import legacy, words
from sidecars.syncer import settings as syncer
from sidecars.syncer.metrics import FAMILIES
from sidecars.tailer import settings as tailer
from tests.manifests import documents, house
from tests.servers.s3 import S3
from tests.unit.core.running import Running

ROOT = Path(__file__).parents[2]
HIDDEN = {"build", "dist"}
PAGES = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not any(part.startswith(".") or part in HIDDEN for part in path.relative_to(ROOT).parts)
)
# Flags of every program of ours that are questions and no settings.
NO_SETTINGS = {"--config", "--check-config", "--version", "--help"}
# Of git-syncer: flags of git-sync's version 3, and what its hooks are told in their environment.
OLD_FLAGS = {"--man", *(f"--{name}" for name in legacy.FLAGS)}
BEYOND_THE_TABLE = {
    "test_a_git_that_is_not_there_ends_it", "test_a_git_that_is_slow_or_fails_once_is_no_end",
    "test_a_hash_that_is_nowhere_is_a_failure", "test_a_hook_never_sees_a_password",
    "test_a_root_that_cannot_be_made_ends_it", "test_a_second_signal_ends_it_at_once",
    "test_a_server_that_answers_with_errors_is_one", "test_sigterm_ends_it_while_a_server_is_silent",
    "test_the_group_may_write_after_a_restart_too", "test_what_begins_with_a_dash_never_reaches_git",
}  # fmt: skip
FOR_HOOKS = {"GITSYNC_HASH", "GITSYNC_PREVIOUS_HASH"}
# What a pod is told by the downward API.
POD = {"POD_NAME": "web-0", "POD_NAMESPACE": "shop", "NODE_NAME": "node-1"}


class Program(NamedTuple):
    """A program that has a page: the module with its settings, what it starts with, and what it says then.

    pod-init's module has no settings but subcommands, which have settings of their own. It is no service.
    """

    settings: Any
    needs: tuple[str, ...] = ("LOGS",)
    says: str = "watching"

    @property
    def name(self) -> str:
        return str(self.settings.PROG)

    @property
    def serves(self) -> bool:
        return self.settings is not init

    @property
    def declared(self) -> list[Setting]:
        """Every setting of it."""
        kinds = [self.settings.Settings] if self.serves else house.init_kinds().values()
        return [setting for kind in kinds for setting in declared(kind, self.settings.PREFIX)]

    @property
    def page(self) -> Path:
        return ROOT / "docs" / f"{self.name}.md"

    @property
    def command(self) -> tuple[str, ...]:
        return (sys.executable, "-m", str(self.settings.__name__).removesuffix(".settings"))

    def load(self, *arguments: str, **variables: str) -> object:
        """The settings that it makes of these arguments and variables; raises WrongSettings."""
        module = self.settings
        if module is syncer:
            return words.load(arguments, {**POD, "GITSYNC_ROOT": "/git"})
        environ = {**POD, **variables}
        if module is init:
            return house.init_settings(list(arguments), environ)
        return load(module.Settings, prog=module.PROG, prefix=module.PREFIX, argv=arguments, environ=environ)


PROGRAMS = {
    each.name: each
    for each in (
        Program(tailer),
        Program(shipper, ("LOGS", "--bucket", "logs")),
        Program(adapter, ("LOGS", "--listen", "off")),
        Program(syncer),
        Program(ambassador, (":0=tcp://127.0.0.1:1",), "listening"),
        Program(init),
    )
}


def named(value: Block | Path | Program) -> str:
    return str(value.relative_to(ROOT)) if isinstance(value, Path) else value.name


def spoken_of(page: Path) -> list[Program]:
    """The programs that a page may speak of: its own, if it is one's."""
    own = PROGRAMS.get(page.stem)
    return [own] if own else list(PROGRAMS.values())


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
def test_every_flag_and_variable_of_a_program_exists(page: Path) -> None:
    settings = [setting for program in spoken_of(page) for setting in program.declared]
    flags = {setting.flag for setting in settings} | {f"{setting.flag}-file" for setting in settings} | NO_SETTINGS
    # `sidecars convert` and `sidecars lint`, of which pages about one image say nothing.
    flags |= (
        {one.flag for module in (pods, lint) for one in declared(module.Settings)}
        if page.stem not in PROGRAMS
        else set()
    )
    # Where people come from, there are command lines of others.
    ours = re.compile(rf"(?:{'|'.join(PROGRAMS)}) |--" if page.parent.name == "migrate" else "")
    texts = filter(ours.match, code(page))
    used = {flag for text in texts for flag in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text)}
    assert used <= flags | OLD_FLAGS
    prefixes = "|".join(program.settings.PREFIX for program in PROGRAMS.values())
    variables = {name for setting in settings for name in setting.variables}
    assert set(re.findall(rf"\b(?:{prefixes})[A-Z_]+\b", page.read_text())) <= variables | FOR_HOOKS | {"INIT_DEST"}


@pytest.mark.parametrize("block", blocks("yaml"), ids=named)
def test_every_yaml_is_what_it_says(block: Block, tmp_path: Path) -> None:
    for document in yaml.safe_load_all(block.text):
        if "apiVersion" in document:
            for version in ("1.29", kubernetes_validate.latest_version()):
                kubernetes_validate.validate(document, version, strict=True)
        for program, arguments, variables in commands(document):
            program.load(*arguments, **variables)
        if "sources" in document or "outputs" in document:
            (tmp_path / "config.yaml").write_text(block.text)
            (program,) = spoken_of(block.page)
            program.load("--config", str(tmp_path / "config.yaml"))
        if "listeners" in document:
            with_certificates(tmp_path)
            with_secrets(tmp_path, block)
            (tmp_path / "config.yaml").write_text(re.sub("/(tls|secrets)/", f"{tmp_path}/", block.text))
            PROGRAMS["ambassador"].load("--config", str(tmp_path / "config.yaml"))
        if "repositories" in document:
            (tmp_path / "password").write_text("hunter2")
            (tmp_path / "config.yaml").write_text(block.text.replace("/secrets/dags/password", f"{tmp_path}/password"))
            PROGRAMS["git-syncer"].load("--config", str(tmp_path / "config.yaml"))


def with_certificates(directory: Path) -> None:
    """Put what a Secret of cert-manager's has into a directory."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(directory / "ca.crt"))
    ours = authority.issue_cert("ambassador")
    ours.cert_chain_pems[0].write_to_path(str(directory / "tls.crt"))
    ours.private_key_pem.write_to_path(str(directory / "tls.key"))


def with_secrets(directory: Path, block: Block) -> None:
    """Put the secrets that a config file names into a directory: those that are shown below it, or any other."""
    for name in re.findall(r"/secrets/([\w./-]+)", block.text):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        below = block.page.read_text().partition(block.text)[2]
        shown = re.search(rf"^```text\n# /secrets/{name}\n(.*?)^```$", below, re.MULTILINE | re.DOTALL)
        (directory / name).write_text(shown[1] if shown else "s3cret")


def commands(document: dict[str, Any]) -> Iterator[tuple[Program, list[str], dict[str, str]]]:
    """Each program of ours in a manifest or compose file, with its arguments and variables; at least one."""
    found: list[tuple[str, list[str], dict[str, str]]]
    if "apiVersion" in document:
        found = [
            (
                each.sidecar,
                each.arguments,
                {var["name"]: var["value"] for var in each.spec.get("env", []) if "value" in var},
            )
            for each in documents.sidecars([document])
        ]
    elif "services" in document:
        services = document["services"].values()
        found = [(each["image"].rpartition("/")[2], each.get("command", []), {}) for each in services]
    else:
        return
    ours = [(PROGRAMS[name], arguments, variables) for name, arguments, variables in found if name in PROGRAMS]
    assert ours
    yield from ours


@pytest.mark.parametrize("page", sorted({block.page for block in blocks("console")}), ids=named)
def test_every_example_says_what_comes_out(page: Path, tmp_path: Path) -> None:
    texts = [block.text for block in blocks("console") if block.page == page]
    examples = [example for text in texts for example in re.split(r"(?m)^\$ ", text)[1:]]
    assert examples
    with environment(page) as environ:
        for example in examples:
            command, _, expected = example.partition("\n")
            done = subprocess.run(
                ["bash", "-c", command], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60
            )
            said = (done.returncode, timeless(done.stdout).rstrip("\n"))
            assert said == (0, timeless(expected).rstrip("\n")), f"{command}\n{done.stderr}"


@contextlib.contextmanager
def environment(page: Path) -> Iterator[dict[str, str]]:
    """The variables of a page's examples: those it exports, with a real S3 server for that on port 9000."""
    environ = {**os.environ, "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"}
    for program in filter(lambda each: each.serves, PROGRAMS.values()):
        environ |= {f"{program.settings.PREFIX}ADMIN": "off", f"{program.settings.PREFIX}STATE_DIR": "off"}
    shown = "".join(block.text for block in blocks("sh") if block.page == page)
    words = [word for line in re.findall(r"(?m)^export (.*)", shown) for word in shlex.split(line, comments=True)]
    exported = dict(word.split("=", 1) for word in words)
    with S3() if exported else contextlib.nullcontext() as server:
        if server:
            exported = {
                name: value.replace("http://127.0.0.1:9000", server.endpoint) for name, value in exported.items()
            }
            # The demo's own default is that port.
            exported["DEMO_OBJECTS_ENDPOINT"] = server.endpoint
        yield environ | exported


def timeless(text: str) -> str:
    return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)", "...", text)


@pytest.mark.parametrize(
    "program", [each for each in PROGRAMS.values() if each.settings not in (syncer, init)], ids=named
)
def test_the_metrics_are_those_of_the_program(program: Program, tmp_path: Path) -> None:
    told = {name.strip("`"): (kind, labels) for name, kind, labels, _ in table(program.page, "metric")}

    class Started(Running):
        command = program.command
        prefix = program.settings.PREFIX

    logs, state = tmp_path / "logs", tmp_path / "state"
    logs.mkdir()
    needs = [str(logs) if word == "LOGS" else word for word in program.needs]
    with Started(*needs, "--state-dir", str(state), "--admin", "127.0.0.1:0") as process:
        process.wait_for(program.says)
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


def test_the_metrics_of_git_syncer_are_on_its_page() -> None:
    told = {name.strip("`"): kind for name, kind, _, _ in table(PROGRAMS["git-syncer"].page, "metric")}
    assert told == {name: family.kind for name, family in FAMILIES.items()}


def test_every_flag_of_git_sync_is_in_git_syncers_table_with_its_variables() -> None:
    told = {row[0].split("`")[1]: (row[3], row[4]) for row in table(PROGRAMS["git-syncer"].page, "flag")}
    settings = declared(syncer.Settings, syncer.PREFIX)
    known = {}
    for setting in settings:
        if setting.name not in syncer.BEYOND:
            old = [name for new in setting.variables for name in legacy.VARIABLES.get(new, ())]
            cells = (", ".join(f"`{name}`" for name in names) for names in (setting.variables, old))
            known[setting.flag] = tuple(cells)
    assert told == known


def test_every_row_of_git_sync_s_contract_names_a_test_that_is_there() -> None:
    rows = list(table(PROGRAMS["git-syncer"].page, "git-sync's promise"))
    files = [
        *(ROOT / "tests" / "servers").glob("test_syncer_*.py"),
        *(ROOT / "tests" / "unit" / "syncer").glob("test_*.py"),
    ]
    tests = {name for file in files for name in re.findall(r"(?m)^def (test_\w+)", file.read_text())}
    assert len(rows) > 70
    for promise, _, named_tests in rows:
        found = re.findall(r"`(test_\w+)`", named_tests)
        assert found, promise
        assert set(found) <= tests, promise


def test_every_test_of_the_contract_is_in_the_table_or_goes_beyond_it() -> None:
    text = (ROOT / "tests" / "servers" / "test_syncer_contract.py").read_text()
    tests = set(re.findall(r"(?m)^def (test_\w+)", text))
    named_tests = {
        name
        for *_, cell in table(PROGRAMS["git-syncer"].page, "git-sync's promise")
        for name in re.findall(r"test_\w+", cell)
    }
    assert tests - named_tests <= BEYOND_THE_TABLE


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=named)
def test_every_message_in_the_troubleshooting_table_is_one_of_the_program(program: Program) -> None:
    folders = (ROOT / "sidecars" / "core", Path(program.settings.__file__).parent)
    source = "\n".join(path.read_text() for folder in folders for path in folder.rglob("*.py"))
    # A text that goes on in the next line of the source.
    source = re.sub(r'"\s*\n\s*f?"', "", source)
    messages = [cell for cell, *_ in table(program.page, "message")]
    texts = [match[1] for cell in messages if (match := re.match(r"`([^`]+)`", cell))]
    assert len(texts) > 15
    assert [text for text in texts if text not in source] == []


def test_every_point_at_which_s3_shipper_may_be_killed_is_on_its_page() -> None:
    assert [cell.strip("`") for cell, *_ in table(PROGRAMS["s3-shipper"].page, "after")] == list(get_args(Point))
