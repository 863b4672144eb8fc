"""A release: what its tags are, that every image has a place in it, and the shape of the workflows that make it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from images import release
from images.release import Target, Version

WORKFLOWS = sorted((release.ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = release.targets(release.BAKE.read_text())
VERSIONS = st.builds(Version, *[st.integers(0, 3)] * 3, st.sampled_from(["", "", "rc.1"]))


@pytest.mark.parametrize(
    ("tag", "released", "expected"),
    [
        ("v1.2.3", "", "1.2 1 latest"),
        ("v1.2.3", "v1.2.2 v1.1.9 v0.9.0", "1.2 1 latest"),
        ("v1.2.3", "v1.2.3", "1.2 1 latest"),
        ("v1.1.5", "v1.1.4 v1.2.0", "1.1"),
        ("v1.3.0", "v2.0.0", "1.3 1"),
        ("v1.2.10", "v1.2.9", "1.2 1 latest"),
        ("v1.2.3", "v1.3.0-rc.1 v2.0.0-alpha.1", "1.2 1 latest"),
        ("v0.1.0", "", "0.1 latest"),
        ("v1.2.3-rc.1", "", ""),
        ("v2.0.0-beta.0", "v1.2.3", ""),
    ],
)
def test_a_floating_tag_names_the_newest_of_its_line(tag: str, released: str, expected: str) -> None:
    assert release.floating(release.version(tag), map(release.version, released.split())) == expected.split()


@given(st.lists(VERSIONS, min_size=1))
def test_whatever_the_order_of_releases_latest_is_the_newest(versions: list[Version]) -> None:
    latest = None
    for number, new in enumerate(versions):
        if "latest" in release.floating(new, versions[:number]):
            latest = new
    assert latest == max((each for each in versions if not each.pre), default=None)


@pytest.mark.parametrize(
    "tag", ["1.2.3", "v1.2", "v1.2.3.4", "v01.2.3", "v1.2.3-dev", "v1.2.3-rc", "v1.2.3-rc.1\n", ""]
)
def test_another_tag_is_refused(tag: str) -> None:
    with pytest.raises(ValueError, match=r"expected v1\.2\.3"):
        release.version(tag)


def test_the_notes_of_a_release_are_its_section_of_the_changelog() -> None:
    changelog = "# Changelog\n\n## [Unreleased]\n\nsoon\n\n## [1.2.3] - 2026-01-31\n\n- this\n\n## [1.2.2]\n\nold\n"
    assert release.notes(changelog, Version(1, 2, 3)) == "- this"
    assert release.notes(changelog, Version(1, 2, 2)) == "old"
    assert release.notes(changelog, Version(1, 2, 0)) == ""


def test_a_version_that_the_tree_has_not_is_told_with_the_files_to_change() -> None:
    told = list(release.mistakes(Version(77, 0, 0)))
    files = ["sidecars/__init__.py", "images/docker-bake.hcl", "CHANGELOG.md"]
    assert [file for file, sentence in zip(files, told, strict=True) if file not in sentence] == []


def test_the_bake_file_has_the_version_of_the_sources() -> None:
    source = (release.ROOT / "sidecars" / "__init__.py").read_text()
    [version] = re.findall(r'^__version__ = "(.*)"', source, re.MULTILINE)
    assert [
        sentence for sentence in release.mistakes(release.version(f"v{version}")) if "CHANGELOG" not in sentence
    ] == []


def test_every_image_of_the_dockerfile_is_published_or_says_that_it_never_is() -> None:
    dockerfile = release.DOCKERFILE.read_text()
    # A comment of dashes opens the part of an image.
    private = {
        stage
        for heading, part in re.findall(r"^# --- (.*)\n((?:(?!# ---).*\n)*)", dockerfile, re.MULTILINE)
        if "never published" in heading
        for stage in release.stages(part)
    }
    titled = {name for name, (_, text) in release.stages(dockerfile).items() if "image.title=" in text}
    assert {target.name for target in TARGETS} == titled - private


@pytest.mark.parametrize("name", dict.fromkeys(target.name for target in TARGETS))
def test_the_sbom_of_an_image_is_of_what_pip_installs_in_it(name: str) -> None:
    extra = re.fullmatch(r"sidecars\[([a-z-]+)\]", release.requirement(name, release.DOCKERFILE.read_text()))
    assert extra
    assert f"\n{extra[1]} = [" in (release.ROOT / "pyproject.toml").read_text()


def test_every_image_is_built_by_hand_too_and_on_the_page_about_releases() -> None:
    names = {target.name for target in TARGETS}
    [listed] = re.findall(r"^sidecars=\((.*)\)$", (release.ROOT / "images" / "build").read_text(), re.MULTILINE)
    assert set(listed.split()) == names
    page = (release.ROOT / "docs" / "releasing.md").read_text()
    assert [name for name in names if f"`{name}`" not in page] == []


def test_a_bake_file_written_otherwise_is_an_error() -> None:
    with pytest.raises(ValueError, match="in one line"):
        release.targets('target "x" {\n  matrix = {\n    name = [\n      "x",\n    ]\n  }\n}\n')


def test_what_was_pushed_is_told_with_its_digest() -> None:
    bake = '    name    = ["a"]\n    variant = ["", "-debug"]\n'
    pushed = {
        "a": {"containerimage.digest": "sha256:1", "image.name": "ghcr.io/x/a:candidate"},
        "a-debug": {
            "containerimage.digest": "sha256:2",
            "image.name": "localhost:5000/x/a:candidate-debug,ghcr.io/x/a:y",
        },
    }
    assert release.targets(bake) == [Target("a", ""), Target("a", "-debug")]
    assert release.images(pushed, bake) == [
        {"target": "a", "repository": "ghcr.io/x/a", "digest": "sha256:1", "variant": ""},
        {"target": "a-debug", "repository": "localhost:5000/x/a", "digest": "sha256:2", "variant": "-debug"},
    ]
    del pushed["a-debug"]
    with pytest.raises(ValueError, match="not built: a-debug"):
        release.images(pushed, bake)


def read(path: Any) -> dict[str, Any]:
    """A workflow; YAML 1.1 reads the key `on` as true."""
    workflow = yaml.safe_load(path.read_text())
    workflow["on"] = workflow.pop(True)
    return dict(workflow)


def jobs(*names: str) -> list[Any]:
    return [
        pytest.param(job, read(path), id=f"{path.stem}: {name}")
        for path in WORKFLOWS
        for name, job in read(path)["jobs"].items()
        if not names or path.stem in names
    ]


def steps(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from job.get("steps", [])


def expressions(value: Any) -> set[str]:
    return set(re.findall(r"\$\{\{\s*(.*?)\s*\}\}", yaml.safe_dump(value, width=10_000)))


def test_there_is_a_workflow_for_changes_and_one_for_releases() -> None:
    assert [path.name for path in WORKFLOWS] == ["ci.yml", "release.yml"]
    ci, published = map(read, WORKFLOWS)
    assert {"push", "pull_request", "workflow_call"} <= ci["on"].keys()
    assert published["on"] == {"push": {"tags": ["v*"]}}
    assert ".ci/run" in [step.get("run") for step in steps(ci["jobs"]["test"])]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: str(path.name))
def test_a_workflow_may_only_read_unless_a_job_says_more(path: Any) -> None:
    workflow = read(path)
    assert workflow.keys() <= {"name", "on", "permissions", "concurrency", "defaults", "env", "jobs"}
    assert workflow["permissions"] == {"contents": "read"}
    # Without it a failure on the left of a pipe is none.
    assert workflow["defaults"] == {"run": {"shell": "bash"}}


@pytest.mark.parametrize(("job", "workflow"), jobs())
def test_a_job_has_a_machine_a_limit_and_steps_or_is_another_workflow(
    job: dict[str, Any], workflow: dict[str, Any]
) -> None:
    if "uses" in job:
        assert job.keys() == {"needs", "uses"}
        assert (release.ROOT / job["uses"]).is_file()
        return
    assert re.fullmatch(r"ubuntu-\d\d\.\d\d", job["runs-on"])
    assert 0 < job["timeout-minutes"] <= 120
    for step in steps(job):
        assert step.keys() <= {"id", "name", "if", "uses", "with", "run", "env"}
        assert ("uses" in step) != ("run" in step)
        assert "with" not in step or "uses" in step


@pytest.mark.parametrize(("job", "workflow"), jobs())
def test_every_action_is_pinned_to_a_version_and_keeps_no_credentials(
    job: dict[str, Any], workflow: dict[str, Any]
) -> None:
    for step in filter(lambda step: "uses" in step, steps(job)):
        assert re.fullmatch(r"[\w.-]+(/[\w.-]+)+@(v\d+\.\d+\.\d+|[0-9a-f]{40})", step["uses"])
        if step["uses"].startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


@pytest.mark.parametrize(("job", "workflow"), jobs())
def test_what_a_job_asks_of_others_is_there(job: dict[str, Any], workflow: dict[str, Any]) -> None:
    needs = job.get("needs", [])
    needs = [needs] if isinstance(needs, str) else needs
    assert set(needs) <= workflow["jobs"].keys()
    ids = {step["id"] for step in steps(job) if "id" in step}
    for expression in expressions(job):
        match expression.lstrip("!").split("."):
            case ["needs", other, "outputs", output]:
                assert other in needs
                assert output in workflow["jobs"][other]["outputs"]
            case ["steps", step, "outputs", _]:
                assert step in ids
            case ["env", name]:
                assert name in workflow["env"]
            case ["matrix", name]:
                assert name in job["strategy"]["matrix"]
            case _:
                assert expression in {"github.actor", "github.token", "github.sha", "github.run_id", "!cancelled()"}


@pytest.mark.parametrize(("job", "workflow"), jobs())
def test_a_script_is_bash_and_has_what_it_is_told_from_variables(job: dict[str, Any], workflow: dict[str, Any]) -> None:
    scripts = [step["run"] for step in steps(job) if "run" in step]
    for script in scripts:
        assert not expressions(script)
        known = {**workflow.get("env", {}), **job.get("env", {})}
        for step in steps(job):
            known |= step.get("env", {})
        assigned = set(re.findall(r"(?:\b(\w+)=|\bfor (\w+) in|read -r ([\w ]+))", script))
        local = {name for names in assigned for group in names for name in group.split()}
        used = set(re.findall(r"\$\{?([A-Za-z_]\w*)", script))
        assert [name for name in used - local - known.keys() if not re.match(r"GITHUB_", name)] == []
    if scripts:
        done = subprocess.run(["bash", "-n"], input="\n".join(scripts), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_nothing_is_published_before_it_is_tested_scanned_and_signed() -> None:
    release_jobs = read(WORKFLOWS[1])["jobs"]

    def before(name: str) -> set[str]:
        needs = release_jobs[name].get("needs", [])
        direct = {needs} if isinstance(needs, str) else set(needs)
        return direct.union(*map(before, direct))

    assert {"plan", "test", "distribution", "candidates", "examine"} <= before("publish")
    assert {"publish"} <= before("pypi")
    scripts = [step.get("run", "") for step in steps(release_jobs["publish"])]
    signing, tagging = (
        next(i for i, run in enumerate(scripts) if word in run) for word in ("cosign sign", "imagetools create")
    )
    assert signing < tagging
    may_write = {name for name, job in release_jobs.items() if "write" in job.get("permissions", {}).values()}
    assert may_write == {"candidates", "publish", "pypi", "page"}


def test_every_image_is_pushed_for_both_platforms_with_sbom_and_provenance() -> None:
    bake = release.BAKE.read_text()
    assert 'platforms  = ["linux/amd64", "linux/arm64"]' in bake
    assert 'attest = ["type=provenance,mode=max", "type=sbom"]' in bake
    # The bake file's default is every target: no list of names in the workflow can be out of date.
    [command] = [
        step["run"] for step in steps(read(WORKFLOWS[1])["jobs"]["candidates"]) if "buildx bake" in step.get("run", "")
    ]
    assert re.sub(r"\\\n\s*", "", command).split() == [
        "docker", "buildx", "bake", "--file", "images/docker-bake.hcl", "--metadata-file", "images.json",
        "--set", "'*.output=type=registry,rewrite-timestamp=true'",
    ]  # fmt: skip
    variables = set(re.findall(r'^variable "(\w+)"', bake, re.MULTILINE))
    [told] = [step["env"] for step in steps(read(WORKFLOWS[1])["jobs"]["candidates"]) if "env" in step]
    assert told.keys() == variables - {"SOURCE_DATE_EPOCH"}
