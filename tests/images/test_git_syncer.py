"""git-syncer in its container: what those rely on who have put it in git-sync's place."""

import dataclasses
import json
import re

import pytest

from tests.images.conftest import IMAGES, Container

REPOSITORY = "from sidecars.demo.repository import Repository; served = Repository('/tmp/git'); "


@pytest.fixture(scope="module")
def host(engine):
    """The demo's git host: a repository behind `git http-backend`, in a container of its own."""
    words = ["git", "--dir", "/tmp/git", "--listen", "0.0.0.0:9418", "--every", "0"]
    container = engine.containers.run("sidecars/demo", words, detach=True, read_only=True, tmpfs={"/tmp": "mode=1777"})
    [image] = [each for each in IMAGES if each.name == "git-syncer"]
    host = Container(container, image)
    host.wait_for(lambda: '"serving"' in host.stderr(), "serve")
    yield host
    container.remove(force=True, v=True)


@pytest.fixture
def url(host):
    [network] = host.attrs["NetworkSettings"]["Networks"].values()
    return f"http://{network['IPAddress']}:9418/shop.git"


@pytest.fixture
def script(tmp_path):
    """A shell script for hooks, on a volume of the machine: its path there, and the volume."""
    tmp_path.chmod(0o755)

    def script(text):
        path = tmp_path / "hook.sh"
        path.write_text(text)
        path.chmod(0o755)
        return {str(tmp_path): {"bind": "/hooks", "mode": "ro"}}

    return script


def tip(host):
    code, said = host.run("git", "-C", "/tmp/git/shop.git", "rev-parse", "main")
    assert code == 0, said
    return said.strip()


def commit(host):
    host.python(REPOSITORY + "served.commit(served.open() + 1)")
    return tip(host)


def published(container):
    """The revision that the link names; empty until it is there."""
    link = "import os; print(os.path.basename(os.readlink('/git/shop')) if os.path.islink('/git/shop') else '')"
    return container.python(link).strip()


def hook_said(container):
    """What the hook of a run that has ended has said on its standard output."""
    events = [json.loads(line) for line in container.stderr().splitlines() if line.startswith("{")]
    [said] = [event["stdout"] for event in events if event["logger"] == "exechook" and "stdout" in event]
    return said


TOOLS = """#!/bin/bash
set -euo pipefail
id -un
echo "$GITSYNC_HASH $(basename "$PWD")"
grep -o 'revision [0-9]*' site/index.html | sed 's/^/this is /'
tar --create --gzip site | tar --list --gzip
curl --silent --show-error --output /dev/null --write-out '%{http_code}\\n' "$URL/info/refs?service=git-upload-pack"
ssh -F /dev/null -G git.example | grep '^user '
sh -c 'readlink -f /bin/sh'
gpgv --version | head -n 1 | cut -d ' ' -f 1
printf x | openssl dgst -sha256 -r | cut -c 1-8
ssh-keygen -q -t ed25519 -N '' -f /tmp/key
"""


def test_in_git_sync_s_place_a_random_user_syncs_once_and_has_the_tools_of_hooks(start, host, url, script):
    """--add-user writes to the root file system: ssh wants a name for each user."""
    container = start(
        "git-syncer",
        *("--repo", url, "--one-time", "--add-user", "--exechook-command", "/hooks/hook.sh", "-v=6"),
        entrypoint="/git-sync",
        read_only=False,
        volumes=script(TOOLS),
        environment={"URL": url},
    )
    assert container.wait() == 0, container.stderr()
    hash = tip(host)
    lines = hook_said(container).split("\n")
    assert lines[:2] == ["git-sync", f"{hash} {hash}"]
    assert re.fullmatch(r"this is revision \d+", lines[2])
    assert lines[3:7] == ["site/", "site/index.html", "200", "user git-sync"]
    assert lines[7:] == ["/usr/bin/bash", "gpgv", "2d711642", ""]


ORPHANS = "#!/bin/sh\nsleep 0.2 &\nsleep 0.2 & exit 0\n"
STATES = """
import pathlib
for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
    print(stat.read_text().rpartition(")")[2].split()[0])
"""


def test_a_signal_reaches_it_also_after_a_pause_and_no_orphan_stays_behind(start, host, url, script):
    container = start(
        "git-syncer",
        *(
            "--repo",
            url,
            "--link",
            "shop",
            "--period",
            "1h",
            "--sync-on-signal",
            "SIGHUP",
            "--exechook-command",
            "/hooks/hook.sh",
        ),
        user=None,
        volumes=script(ORPHANS),
    ).wait_until_ready()
    for paused in (False, True):
        if paused:
            container.pause()
            container.unpause()
        hash = commit(host)
        container.kill(signal="SIGHUP")
        container.wait_for(lambda hash=hash: published(container) == hash, "publish the new commit")
    container.wait_for(lambda: "sleep" not in processes(container), "reap the hook's orphans")
    assert "Z" not in container.python(STATES).split()


def processes(container):
    return " ".join(" ".join(row) for row in container.top()["Processes"])


def test_without_a_shell_it_syncs_by_http(start, host, url):
    [whole] = [image for image in IMAGES if image.name == "git-syncer"]
    container = start(dataclasses.replace(whole, name="git-syncer-noshell"), "--repo", url, "--link", "shop")
    container.wait_until_ready()
    assert published(container) == tip(host)
    found = container.python("import shutil; print(*filter(shutil.which, ('git', 'ssh', 'sh', 'bash', 'curl', 'cat')))")
    assert found.split() == ["git"]
