"""What a release is called and what it is made of; the release workflow and its rehearsal ask here.

python -m images.release plan TAG       lines of KEY=VALUE for the workflow's jobs; exit 1 if the tree is not ready
python -m images.release notes TAG      the section of CHANGELOG.md about it
python -m images.release images FILE    what `docker buildx bake --metadata-file FILE` has pushed, as JSON
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
BAKE = ROOT / "images" / "docker-bake.hcl"
DOCKERFILE = ROOT / "images" / "Dockerfile"
CHANGELOG = ROOT / "CHANGELOG.md"

# What both semver and PEP 440 take for a pre-release: the images and the Python distribution have one version.
TAG = re.compile(r"v(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-((?:alpha|beta|rc)\.(?:0|[1-9]\d*)))?")


class Version(NamedTuple):
    """A version, and by its `pre` ("rc.1", or "") a pre-release of it."""

    major: int
    minor: int
    patch: int
    pre: str = ""

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}" + (f"-{self.pre}" if self.pre else "")


class Target(NamedTuple):
    """One image of the bake file: the stage of the Dockerfile, and the suffix of its tags."""

    name: str
    variant: str


def version(tag: str) -> Version:
    """Read a git tag, as v1.2.3 or v1.2.3-rc.1. Raises ValueError for another."""
    match = TAG.fullmatch(tag)
    if not match:
        raise ValueError(f"the tag is {tag!r}, expected v1.2.3, or v1.2.3-rc.1 (alpha, beta, rc)")
    major, minor, patch, pre = match.groups()
    return Version(int(major), int(minor), int(patch), pre or "")


def floating(new: Version, released: Iterable[Version]) -> list[str]:
    """Give the tags that move to a release: of 1.2.3, when nothing newer is released, 1.2, 1 and latest.

    A pre-release moves none. A fix of an older line moves only what it is the newest of: 1.1.5 after 1.2.0 is 1.1, and
    neither 1 nor latest. There is no tag 0: by semver 0.2 may break what 0.1 promised.
    """
    if new.pre:
        return []
    others = [each for each in released if not each.pre]
    lines = {f"{new.major}.{new.minor}": new[:2], f"{new.major}": new[:1], "latest": ()}
    return [
        tag
        for tag, line in lines.items()
        if tag != "0" and all(each <= new for each in others if each[: len(line)] == line)
    ]


def targets(bake: str) -> list[Target]:
    """Read the matrix of the bake file: every name with every variant. Raises ValueError when it is not one."""
    found = {}
    for key in ("name", "variant"):
        match = re.search(rf"^ +{key} += (\[.*\])$", bake, re.MULTILINE)
        if not match:
            raise ValueError(f"{BAKE.name} has no line `{key} = [...]` in its matrix: write the list in one line")
        found[key] = json.loads(match[1])
    return [Target(name, variant) for name in found["name"] for variant in found["variant"]]


def stages(dockerfile: str) -> dict[str, tuple[str, str]]:
    """Split a Dockerfile by stage: name -> what it is built from, and its text."""
    parts = re.split(r"^FROM (\S+) AS (\S+)$", dockerfile, flags=re.MULTILINE)[1:]
    return {name: (parent, text) for parent, name, text in zip(parts[::3], parts[1::3], parts[2::3], strict=True)}


def requirement(name: str, dockerfile: str) -> str:
    """Give what pip installs in an image, as "sidecars[tailer]". Raises ValueError when that is nothing."""
    known = stages(dockerfile)
    stage: str | None = name
    while stage in known:
        parent, text = known[stage]
        if match := re.search(r"^COPY --from=(\S+-packages) /root-of-image /$", text, re.MULTILINE):
            installed = re.search(r'packages /root-of-image \S+ "([^"]+)"', known[match[1]][1])
            if installed:
                return installed[1]
        stage = parent
    raise ValueError(f"{DOCKERFILE.name} has no stage {name} with the packages of a stage that pip filled")


def notes(changelog: str, new: Version) -> str:
    """Give the section about a version, without its heading; "" if there is none."""
    match = re.search(rf"^## \[{re.escape(str(new))}\][^\n]*\n(.*?)(?=^## \[|\Z)", changelog, re.MULTILINE | re.DOTALL)
    return match[1].strip() if match else ""


def mistakes(new: Version) -> Iterator[str]:
    """Say what in this tree does not fit the version; a sentence each, with what to do."""
    sources = {
        "sidecars/__init__.py": r'^__version__ = "(.*)"',
        "images/docker-bake.hcl": r'^variable "VERSION" \{\n  default = "(.*)"',
    }
    for path, pattern in sources.items():
        match = re.search(pattern, (ROOT / path).read_text(), re.MULTILINE)
        said = match[1] if match else "not there"
        if said != str(new):
            yield f"the version in {path} is {said}, the tag says {new}: change one of them"
    if not notes(CHANGELOG.read_text(), new):
        yield f"CHANGELOG.md has no section [{new}]: give what is under [Unreleased] that heading, with the date"


def released() -> list[Version]:
    """Give the versions that this repository has a tag for."""
    listing = subprocess.run(["git", "tag", "--list", "v*"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return [version(tag) for tag in listing.stdout.split() if TAG.fullmatch(tag)]


def plan(tag: str) -> dict[str, str]:
    """Give what the jobs of the workflow want to know, each as text."""
    new = version(tag)
    moving = floating(new, released())
    return {
        "version": str(new),
        "tags": ",".join([str(new), *moving]),
        "prerelease": json.dumps(bool(new.pre)),
        "latest": json.dumps("latest" in moving),
    }


def images(metadata: dict[str, Any], bake: str) -> list[dict[str, str]]:
    """Give what was built, from buildx's metadata file: of each image its target, repository, digest and variant.

        {"log-tailer-debug": {"containerimage.digest": "sha256:...", "image.name": "ghcr.io/x/log-tailer:1.2.3-debug"}}

    Raises ValueError unless every target of the bake file is there.
    """
    missing = [name + variant for name, variant in targets(bake) if name + variant not in metadata]
    if missing:
        raise ValueError(f"not built: {', '.join(missing)}")
    found = []
    for name, variant in targets(bake):
        built = metadata[name + variant]
        repository = built["image.name"].partition(",")[0].rpartition(":")[0]
        found.append(
            {
                "target": name + variant,
                "repository": repository,
                "digest": built["containerimage.digest"],
                "variant": variant,
            }
        )
    return found


def main() -> None:
    """Answer one question of the workflow."""
    match sys.argv[1:]:
        case ["plan", tag]:
            wrong = list(mistakes(version(tag)))
            if wrong:
                sys.exit("\n".join(wrong))
            print("\n".join(f"{key}={value}" for key, value in plan(tag).items()))
        case ["notes", tag]:
            print(notes(CHANGELOG.read_text(), version(tag)))
        case ["images", path]:
            print(json.dumps(images(json.loads(Path(path).read_text()), BAKE.read_text())))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    try:
        main()
    except ValueError as wrong:
        sys.exit(str(wrong))
