"""The gallery's pods hold what `sidecars convert` makes of pods of the same shape; the rest is what a person adds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecars import __version__
from sidecars.pods.converting import convert
from sidecars.pods.manifests import PodSpec, read
from sidecars.pods.planning import Options
from tests.unit.pods.expected import Case, cases

GALLERY = Path(__file__).parents[3] / "manifests" / "gallery"
NINE = [case for case in cases() if case.name.startswith("nine-")]
OPTIONS = Options(target=(1, 37), registry="sidecars", tag=__version__)
# What a person has put in its place, knowing more: an image of the model that copies itself, one wait for both.
BY_HAND = {"ml-demo", "myapp-pod"}


def pod(text: str) -> tuple[str, PodSpec]:
    document = read(text, "f.yaml").documents[0]
    return document.name, document.pods[0]


PAIRS = {pod(path.read_text())[0]: pod(path.read_text())[1] for path in GALLERY.glob("*.yaml")}


def effective(container: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
    return {**spec.get("securityContext", {}), **container.get("securityContext", {})}


def mounts(container: dict[str, Any]) -> set[tuple[str, bool]]:
    return {(each["mountPath"], each.get("readOnly", False)) for each in container.get("volumeMounts", [])}


def test_there_is_one_for_each_of_the_gallery() -> None:
    assert {pod(case.text)[0] for case in NINE} == set(PAIRS)
    assert len(PAIRS) == 9


@pytest.mark.parametrize("case", NINE, ids=lambda case: case.name)
def test_the_gallery_has_what_is_made(case: Case) -> None:
    name, made = pod(convert(case.text, case.name, OPTIONS).after)
    there = PAIRS[name]
    by_name = {(found.place, found.name): found for found in there.containers}
    ours = [found for found in made.containers if found.container.image.startswith("sidecars/")]
    assert [found.name for found in ours] == [name for name, kind, _ in case.expected if kind == "exact"]
    for found in ours if name not in BY_HAND else []:
        theirs = by_name[found.place, found.name].raw
        for key in ("image", "args", "restartPolicy", "ports", "startupProbe", "livenessProbe"):
            assert theirs.get(key) == found.raw.get(key), key
        secured = effective(theirs, there.spec)
        assert "fsGroup" in secured or not found.container.mounts  # the nginx there has a group of its own
        assert {**effective(found.raw, made.spec), "fsGroup": None}.items() <= {**secured, "fsGroup": None}.items()
        assert mounts(theirs) == mounts(found.raw)
        variables = {each["name"] for each in found.raw.get("env", [])}
        assert variables <= {each["name"] for each in theirs.get("env", [])}


def test_who_waits_for_both_waits_for_what_was_waited_for() -> None:
    case = next(case for case in NINE if "name: myapp-pod" in case.text)
    made = [found.container.args for found in pod(convert(case.text, case.name, OPTIONS).after)[1].containers[:2]]
    (there, *_) = PAIRS["myapp-pod"].containers
    names = [target.partition("://")[2].rstrip("/").partition(":")[0] for target in there.container.args[1:-1]]
    assert names == [args[1].removeprefix("dns://") for args in made]
    assert {args[-1] for args in made} == {there.container.args[-1]}


def test_no_shell_is_left_but_the_applications_own() -> None:
    for case in NINE:
        done = convert(case.text, case.name, OPTIONS)
        left = [each for each in done.findings if each.kind != "exact"]
        assert {each.verdict.pattern for each in left} <= {16, 38}
        again = [each for each in convert(done.after, case.name, OPTIONS).findings if each.kind == "exact"]
        assert again == []
        assert list(yaml.safe_load_all(done.after))


def test_nothing_that_is_ours_is_converted() -> None:
    """The manifests of this repository, its compose file too, are as they should be."""
    files = [*GALLERY.parent.rglob("*.yaml"), GALLERY.parents[1] / "docker-compose.yml"]
    assert len(files) > 30
    for path in files:
        findings = convert(path.read_text(), str(path), OPTIONS).findings
        assert {finding.kind for finding in findings} <= {"refuse"}, path
