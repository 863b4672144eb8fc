"""Everything of a release that needs no registry, step by step; `make release-dry-run` runs it.

    python -m images.rehearse [TAG] [--no-images]

Without TAG it is this tree's version, and what has to be done before its release is said; with TAG that is wrong.
Each line is one of: ok, to do, wrong, left out. Exit 1 if anything is wrong. What is made stands in build/release/.
"""

from __future__ import annotations

import argparse
import glob
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from images import release

MADE = release.ROOT / "build" / "release"
# The files of the commit, and nothing that lies about beside them or changes meanwhile.
SOURCE = MADE / "source"
TOOLS = Path(sys.executable).parent
# The interpreter of an image has no pip, and needs none to say where its packages are.
WHERE = "import sysconfig; print(sysconfig.get_path('purelib'))"
# What the workflow does beyond this, and why it cannot be done here.
BEYOND = {
    "images for arm64": "needs QEMU and buildx",
    "push, with provenance and the SBOM of whole images": "buildx makes them while it pushes: needs a registry",
    "scan for known faults": "grype reads the pushed images: needs a registry and its database",
    "signatures": "cosign asks the workflow's identity provider: needs the forge",
    "tags on the images": "needs a registry",
    "upload of wheel and sdist": "needs PyPI, which trusts the workflow alone",
    "the release's page with notes, SBOMs and digests": "needs the forge",
}


class Rehearsal:
    """What was found so far, told line by line."""

    def __init__(self, version: release.Version, strict: bool) -> None:
        self.version = version
        self.strict = strict
        self.wrong = 0

    def tell(self, state: str, text: str) -> None:
        """Print one line; a wrong one makes the exit code 1."""
        self.wrong += state == "wrong"
        print(f"  {state:<9} {text}", flush=True)

    def names(self) -> None:
        """Hold the tag against the tree, and compute what it is called."""
        print(f"names of v{self.version}", flush=True)
        missing = list(release.mistakes(self.version))
        for sentence in missing:
            self.tell("wrong" if self.strict else "to do", sentence)
        if not missing:
            self.tell("ok", "version, bake file and changelog say the same")
        if run("git", "status", "--porcelain"):
            self.tell(
                "wrong" if self.strict else "to do", "commit or remove what git status shows: a tag names a commit"
            )
        plan = release.plan(f"v{self.version}")
        self.tell(
            "ok",
            f"tags: {plan['tags'].replace(',', ', ')}; latest: {plan['latest']}; pre-release: {plan['prerelease']}",
        )

    def distribution(self) -> Path:
        """Build wheel and sdist, check what PyPI would check, and build the wheel again; give the wheel."""
        print("Python distribution", flush=True)
        dist, again = MADE / "dist", MADE / "again"
        command = [sys.executable, "-m", "build", str(SOURCE), "--outdir"]
        run(*command, str(dist))
        made = sorted(map(str, dist.iterdir()))
        self.tell("ok", f"built {', '.join(map(os.path.basename, made))}: the wheel from the sdist")
        run(str(TOOLS / "twine"), "check", "--strict", *made)
        self.tell("ok", "twine check --strict")
        run(*command, str(again))
        [wheel], [second] = dist.glob("*.whl"), again.glob("*.whl")
        same = digest(wheel) == digest(second)
        self.tell(
            "ok" if same else "wrong",
            f"the wheel built twice is {'the same bytes' if same else 'not the same bytes'}: {digest(wheel)[:12]}",
        )
        shutil.rmtree(again)
        return wheel

    def recipe(self, tags: Sequence[str]) -> None:
        """Say what the bake file makes, as buildx reads it where it is there, else as we do."""
        print("images of docker-bake.hcl", flush=True)
        bake = release.BAKE.read_text()
        known = release.stages(release.DOCKERFILE.read_text())
        targets = release.targets(bake)
        for name, variant in targets:
            named = " ".join(f"{tag}{variant}" for tag in tags)
            self.tell("ok" if name in known else "wrong", f"{name + variant:<24} linux/amd64 linux/arm64  {named}")
        printed = buildx(tags)
        if printed is None:
            self.tell(
                "left out", "docker buildx bake --print: there is no buildx here; the file was read by our own eyes"
            )
        else:
            equal = {name + variant for name, variant in targets} == printed
            self.tell(
                "ok" if equal else "wrong",
                "docker buildx bake --print " + ("gives the same" if equal else f"gives {sorted(printed)}"),
            )

    def images(self) -> bool:
        """Build every image, start each, and build one twice, if there is a container engine; say whether there is."""
        print("images, with the engine of this machine", flush=True)
        if subprocess.run(["images/engine", "where"], capture_output=True).returncode:
            self.tell(
                "left out",
                "builds, starts and a second build with the same digests: no container engine answers (make engine)",
            )
            return False
        run(str(SOURCE / "images" / "build"))
        for name, variant in release.targets(release.BAKE.read_text()):
            image = f"sidecars/{name}:{self.version}{variant}"
            # What it says beside the version is in the lines before.
            said = docker("run", "--rm", "--read-only", "--cap-drop", "ALL", image, "--version").split("\n")[-2]
            self.tell("ok" if str(self.version) in said else "wrong", f"{name + variant:<24} built, starts: {said}")
        twice = subprocess.run([SOURCE / "images" / "twice", "log-tailer"], capture_output=True, text=True)
        last = (twice.stderr if twice.returncode else twice.stdout).strip().rpartition("\n")[2]
        self.tell("wrong" if twice.returncode else "ok", f"log-tailer: {last}")
        self.tell("left out", "the other images twice: make slow builds them")
        return True

    def sboms(self, wheel: Path, engine: bool) -> None:
        """Write a CycloneDX document of the Python distributions in each image, taken out of it where it was built."""
        print("SBOM of the Python distributions in each image", flush=True)
        dockerfile = release.DOCKERFILE.read_text()
        for name in dict.fromkeys(each.name for each in release.targets(release.BAKE.read_text())):
            environment = MADE / "environments" / name
            run(sys.executable, "-m", "venv", "--without-pip", str(environment))
            if engine:
                take_packages(f"sidecars/{name}:{self.version}", environment)
            else:
                install(release.requirement(name, dockerfile), wheel, environment)
            path = MADE / "sbom" / f"{name}.cdx.json"
            path.parent.mkdir(exist_ok=True)
            run(
                str(TOOLS / "cyclonedx-py"),
                "environment",
                "--output-reproducible",
                "--pyproject",
                "pyproject.toml",
                "-o",
                str(path),
                str(environment / "bin" / "python"),
            )
            found = json.loads(path.read_text())["components"]
            self.tell("ok" if found else "wrong", f"{path.relative_to(release.ROOT)}: {len(found)} components")
        if not engine:
            self.tell(
                "left out",
                "taking them out of the images: they are what pip installs for each beside the wheel, now and here",
            )
        self.tell(
            "left out", "Debian's libraries and programs, and the interpreter: buildx lists those while it pushes"
        )

    def beyond(self) -> None:
        """Say what only the workflow does."""
        print("only in .github/workflows/release.yml", flush=True)
        for what, why in BEYOND.items():
            self.tell("left out", f"{what}: {why}")


def run(*command: str) -> str:
    """Run a command of the rehearsal and give what it printed; one that fails ends the rehearsal with its words."""
    environ = os.environ | {"SOURCE_DATE_EPOCH": epoch()}
    done = subprocess.run(
        command, cwd=release.ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        sys.exit(f"{done.stdout}\n{' '.join(command)} ended with exit code {done.returncode}")
    return done.stdout


def epoch() -> str:
    """Give the date of every file in what is published, as the bake file has it."""
    match = re.search(r'"SOURCE_DATE_EPOCH" \{\n  default = "(\d+)"', release.BAKE.read_text())
    if not match:
        raise ValueError(f"{release.BAKE.name} has no default for SOURCE_DATE_EPOCH")
    return match[1]


def docker(*arguments: str) -> str:
    """Run the client that fits the engine."""
    return run("images/engine", "docker", *arguments)


def digest(path: Path) -> str:
    """Give the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def buildx(tags: Sequence[str]) -> set[str] | None:
    """Give the names of the targets that buildx reads in the bake file; None where there is no buildx."""
    environ = os.environ | {"TAGS": ",".join(tags)}
    command = ["docker", "buildx", "bake", "--file", str(release.BAKE), "--print"]
    try:
        done = subprocess.run(command, cwd=release.ROOT, env=environ, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return set(json.loads(done.stdout)["target"]) if not done.returncode else None


def install(requirement: str, wheel: Path, environment: Path) -> None:
    """Install what an image installs into an environment of its own."""
    wanted = f"{requirement} @ file://{wheel}"
    python = str(environment / "bin" / "python")
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-compile", wanted)


def take_packages(image: str, environment: Path) -> None:
    """Copy the distributions of an image into an environment that has none."""
    folder = docker("run", "--rm", "--entrypoint", "python", image, "-c", WHERE).strip()
    container = docker("create", image).strip()
    [packages] = glob.glob(str(environment / "lib" / "python*" / "site-packages"))
    docker("cp", f"{container}:{folder}/.", packages)
    docker("rm", container)


def main() -> None:
    """Rehearse the release of a tag, or of this tree."""
    parser = argparse.ArgumentParser(prog="make release-dry-run", description="what of a release needs no registry")
    parser.add_argument("tag", nargs="?", default="", help="v1.2.3 or v1.2.3-rc.1; default: the version of this tree")
    parser.add_argument("--no-images", action="store_true", help="leave the images to those who build them anyway")
    asked = parser.parse_args()
    version = re.search(r'"(.*)"', (release.ROOT / "sidecars" / "__init__.py").read_text().rpartition("__version__")[2])
    rehearsal = Rehearsal(release.version(asked.tag or f"v{version and version[1]}"), strict=bool(asked.tag))
    shutil.rmtree(MADE, ignore_errors=True)
    MADE.mkdir(parents=True)
    run("git", "archive", "--output", f"{SOURCE}.tar", "HEAD")
    shutil.unpack_archive(f"{SOURCE}.tar", SOURCE)
    rehearsal.names()
    wheel = rehearsal.distribution()
    rehearsal.recipe(release.plan(f"v{rehearsal.version}")["tags"].split(","))
    if asked.no_images:
        rehearsal.tell("left out", "builds and SBOMs of images: --no-images")
    else:
        rehearsal.sboms(wheel, rehearsal.images())
    rehearsal.beyond()
    sys.exit(f"{rehearsal.wrong} wrong: see above" if rehearsal.wrong else 0)


if __name__ == "__main__":
    try:
        main()
    except ValueError as wrong:
        sys.exit(str(wrong))
