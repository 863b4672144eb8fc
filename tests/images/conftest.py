"""Containers of our images, met as an operator meets them. An image takes part in the kit by its line in IMAGES."""

import contextlib
import http.client
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import pytest
import requests

from tests.servers.git_server import Repository

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PATIENCE = 30.0


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image of ours, as far as the lifecycle kit has to know it. One without a port works and ends."""

    name: str
    command: str = ""  # where it is not called as the image is
    beside: str = ""  # another image with the same program, with which it is shown how that runs
    megabytes: float  # on disk
    compressed: float  # megabytes to pull
    memory: float  # MiB resident, idle
    port: int = 0  # of its admin door
    idle: tuple[str, ...] = ()  # arguments with which it runs, has nothing to do, and ends at once when asked to
    prefix: str = ""  # of its variables
    secret: str = ""  # a variable that holds a secret
    secretive: tuple[str, ...] = ()  # arguments more with which it uses that secret
    lingering: tuple[str, ...] = ()  # arguments more with which its drain lasts longer than a test; none: it never does
    beside_secret: dict[str, str] = field(default_factory=dict)  # variables more that it wants with that secret
    tmpfs: dict[str, str] = field(default_factory=dict)  # the volumes it needs
    serves: tuple[int, ...] = ()  # ports beside that of its admin door
    user: str = "65532:65532"
    insists: bool = True  # on its admin door where that is not asked for
    wrong_variable: int = 2  # its exit code when a variable's value cannot be read
    tools: frozenset[str] = frozenset()  # shells and tools that it is meant to have
    writable: tuple[str, ...] = ()  # files that everyone may change
    repository: str = ""  # where it finds a git repository

    def __str__(self) -> str:
        return self.name

    @property
    def ports(self) -> tuple[int, ...]:
        """All that it listens on."""
        return (self.port, *self.serves) if self.port else ()


# As an empty volume takes it from the image's /state: a tmpfs gets the mode of the folder under it, but not its owner.
OWN = "uid=65532,gid=0,mode=0770"

# Nobody writes at the end of these tests: there is nothing to wait for.
HASTY = ("--quiet", "0.1s")

IMAGES = [
    Image(
        name="log-tailer",
        port=9101,
        idle=("/logs/*.log", *HASTY),
        lingering=("--quiet", "20s"),
        prefix="TAILER_",
        secret="TAILER_FORWARD_KEY",
        secretive=("--output", "forward://127.0.0.1:9?tag=app"),
        megabytes=50,
        compressed=18,
        memory=36,
        tmpfs={"/logs": "mode=1777"},
    ),
    Image(
        name="s3-shipper",
        port=9103,
        idle=("/logs/*.log", "--bucket", "logs", "--endpoint", "http://127.0.0.1:9", "--region", "us-east-1", *HASTY),
        lingering=("--quiet", "20s"),
        prefix="SHIPPER_",
        secret="SHIPPER_SECRET_ACCESS_KEY",
        secretive=("--role-arn", "arn:aws:iam::123456789012:role/shipper"),
        beside_secret={"SHIPPER_ACCESS_KEY_ID": "AKIAEXAMPLE"},
        megabytes=58,
        compressed=20,
        memory=38,
        tmpfs={"/logs": "mode=1777", "/state": OWN},
    ),
    Image(
        name="log-adapter",
        port=9102,
        serves=(3080,),
        idle=("/logs/*.log", *HASTY),
        lingering=("--quiet", "20s"),
        prefix="ADAPTER_",
        secret="ADAPTER_AUTH_PASSWORD",
        secretive=("--auth-user", "reader"),
        megabytes=56,
        compressed=20,
        memory=50,
        tmpfs={"/logs": "mode=1777"},
    ),
    Image(
        name="git-syncer",
        port=9104,
        # What is mounted belongs to root, and git asks whose it is.
        idle=("--repo", "file:///repository", "--link", "site", "--git-config", "safe.directory:*"),
        prefix="GITSYNC_",
        secret="GITSYNC_PASSWORD",
        secretive=("--username", "reader"),
        megabytes=90,
        compressed=36,
        memory=42,
        tmpfs={"/git": "uid=65533,gid=0,mode=0775", "/tmp": "mode=1777"},
        user="65533:65533",
        insists=False,
        wrong_variable=1,
        tools=frozenset({"bash", "curl", "sh"}),
        writable=("etc/passwd",),
        repository="/repository",
    ),
    Image(
        name="ambassador",
        port=9105,
        serves=(6380,),
        # An upstream that is there: its own admin door.
        idle=(":7000=tcp://127.0.0.1:9105",),
        prefix="AMBASSADOR_",
        secret="AMBASSADOR_REDIS_CLIENT_PASSWORD",
        secretive=(":7001=redis://127.0.0.1:9",),
        megabytes=60,
        compressed=20,
        memory=36,
    ),
    Image(
        name="ambassador-full",
        command="ambassador",
        beside="ambassador",
        port=9105,
        serves=(6380,),
        megabytes=115,
        compressed=36,
        memory=36,
    ),
    Image(name="pod-init", megabytes=50, compressed=18, memory=32),
    Image(name="pod-init-full", command="pod-init", megabytes=130, compressed=50, memory=40),
]


class Container:
    """A running container, with what tests ask of one."""

    def __init__(self, container: Any, image: Image) -> None:
        self.container = container
        self._image = image

    def __getattr__(self, name: str) -> Any:
        return getattr(self.container, name)

    def address(self, port: int | None = None) -> tuple[str, int]:
        """Where the admin door, or another port, is published on this machine: not the container's loopback."""
        self.container.reload()
        [published, *_] = self.container.ports[f"{port or self._image.port}/tcp"]
        return "127.0.0.1", int(published["HostPort"])

    def ask(
        self, method: str, path: str, headers: dict[str, str] | None = None, port: int | None = None
    ) -> tuple[int, str]:
        """Send one request to the admin door, or to another port, from outside the container."""
        connection = http.client.HTTPConnection(*self.address(port), timeout=5)
        try:
            connection.request(method, path, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def get(self, path: str, port: int | None = None) -> tuple[int, str]:
        return self.ask("GET", path, port=port)

    def python(self, program: str, *arguments: str) -> str:
        """Run a program in the container with the image's own Python."""
        code, output = self.container.exec_run(["python", "-c", program, *arguments])
        assert code == 0, output.decode()
        return output.decode()

    def run(self, *command: str) -> tuple[int, str]:
        """Run a command in the container, and give its exit code and output."""
        code, output = self.container.exec_run(list(command))
        return code, output.decode()

    def wait(self, timeout: float = PATIENCE) -> int:
        """Give the exit code."""
        try:
            return int(self.container.wait(timeout=timeout)["StatusCode"])
        except requests.ConnectionError:  # the client's word for a time-out here
            pytest.fail(f"it has not ended within {timeout:g} s\n{self.stderr()[-2000:]}")

    def stdout(self) -> bytes:
        return bytes(self.container.logs(stdout=True, stderr=False))

    def stderr(self) -> str:
        return self.container.logs(stdout=False, stderr=True).decode()

    def is_ready(self) -> bool:
        try:
            return self.get("/readyz")[0] == 200
        except (OSError, http.client.HTTPException, KeyError, ValueError):
            return False

    def wait_until_ready(self) -> "Container":
        self.wait_for(self.is_ready, "be ready")
        return self

    def wait_for(self, happened: Callable[[], Any], what: str) -> None:
        """Wait until something is so; fail at once, with the container's last words, when it has ended instead."""
        deadline = time.monotonic() + PATIENCE
        while self.container.reload() or not happened():
            ended = self.container.status == "exited"
            if ended or time.monotonic() > deadline:
                pytest.fail(f"it did not {what}: {'it ended' if ended else 'time is up'}\n{self.stderr()[-2000:]}")
            time.sleep(0.02)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "image" in metafunc.fixturenames:
        fit = [
            image
            for image in IMAGES
            if image.port and not image.beside and (image.lingering or "lingering" not in metafunc.fixturenames)
        ]
        metafunc.parametrize("image", fit, ids=str)
    if "any_image" in metafunc.fixturenames:
        metafunc.parametrize("any_image", IMAGES, ids=str)


NO_ENGINE = "NO CONTAINER TEST HAS RUN: no engine answers; run `make engine` (Debian, as root), or set DOCKER_HOST"


def where() -> str:
    """DOCKER_HOST of the engine that `make images` built the images with; empty if none answers."""
    return subprocess.run([f"{ROOT}/images/engine", "where"], stdout=subprocess.PIPE, text=True).stdout.strip()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without an engine these tests are skipped, with one line a file; in CI they fail."""
    ours = [item for item in items if str(item.path).startswith(os.path.dirname(__file__))]
    if ours and os.environ.get("CI") != "true" and not where():
        for item in ours:
            item.add_marker(pytest.mark.skip(reason=NO_ENGINE))


@pytest.fixture(scope="session")
def engine_host() -> str:
    return where() or pytest.fail(NO_ENGINE)


@pytest.fixture(scope="session")
def engine(engine_host: str) -> Iterator[docker.DockerClient]:
    client = docker.DockerClient(base_url=engine_host, version="auto", timeout=60)
    yield client
    client.close()


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git repository that every user may read."""
    folder = tmp_path_factory.mktemp("git")
    for path in (folder, folder.parent, folder.parent.parent):
        path.chmod(0o755)
    made = Repository(folder / "site.git")
    made.commit({"index.html": "one\n"})
    return made.path


@contextlib.contextmanager
def starting(engine: docker.DockerClient, request: pytest.FixtureRequest) -> Iterator[Callable[..., Container]]:
    """Start containers as restricted as Pod Security asks, by a user that no image knows, with OpenShift's group 0."""
    started = []

    def start(image: Image | str, *arguments: str, tag: str = "latest", made: str = "", **options: Any) -> Container:
        if isinstance(image, str):
            [image] = [each for each in IMAGES if each.name == image]
        settings: dict[str, Any] = {
            "read_only": True,
            "user": "12345:0",
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges"],
            "pids_limit": 64,
            "mem_limit": "128m",
            "tmpfs": image.tmpfs,
            "ports": {f"{port}/tcp": ("127.0.0.1", None) for port in image.ports},
        }
        if image.repository:
            mount = {str(request.getfixturevalue("repository")): {"bind": image.repository, "mode": "ro"}}
            settings["volumes"] = mount | options.pop("volumes", {})
        container = engine.containers.create(
            made or f"sidecars/{image.name}:{tag}", list(arguments), **(settings | options)
        )
        started.append(container)
        container.start()
        return Container(container, image)

    try:
        yield start
    finally:
        for container in started:
            container.remove(force=True, v=True)


@pytest.fixture
def start(engine: docker.DockerClient, request: pytest.FixtureRequest) -> Iterator[Callable[..., Container]]:
    with starting(engine, request) as start:
        yield start


@pytest.fixture(scope="session")
def standing(engine: docker.DockerClient, request: pytest.FixtureRequest) -> Iterator[Callable[[Image], Container]]:
    """Give one idle container of an image to all tests that only look at it: each start takes a second."""
    with starting(engine, request) as start:
        made: dict[str, Container] = {}

        def standing(image: Image) -> Container:
            if image.name not in made:
                made[image.name] = start(image, *image.idle).wait_until_ready()
            return made[image.name]

        yield standing


@pytest.fixture
def termination_log(tmp_path: Path) -> Path:
    """The file that the kubelet makes, mode 0666, and mounts."""
    path = tmp_path / "termination-log"
    path.touch()
    path.chmod(0o666)
    return path


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """A folder of the machine that every user may read, as an emptyDir is."""
    folder = tmp_path / "logs"
    folder.mkdir()
    for path in (tmp_path, folder):
        path.chmod(0o755)
    return folder


@pytest.fixture
def state(engine: docker.DockerClient) -> Iterator[dict[str, dict[str, str]]]:
    """A volume that everyone may write to, as an emptyDir with fsGroup is; it lives while it is used."""
    volume = engine.volumes.create(driver_opts={"type": "tmpfs", "device": "tmpfs", "o": "mode=1777"})
    mounts = {volume.name: {"bind": "/state", "mode": "rw"}}
    pause = ["-c", "import signal; signal.pause()"]
    pod = engine.containers.run("sidecars/log-tailer", pause, entrypoint="python", volumes=mounts, detach=True)
    yield mounts
    pod.remove(force=True)
    volume.remove()


@pytest.fixture
def idle(image: Image, standing: Callable[[Image], Container]) -> Container:
    """A container of the image that is ready and has nothing to do; other tests look at it too."""
    return standing(image)


@pytest.fixture
def lingering(image: Image, start: Callable[..., Container]) -> Container:
    """A container whose drain, once asked for, lasts longer than a test."""
    return start(image, *image.idle, *image.lingering).wait_until_ready()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what was measured: figures, which are no reason to fail."""
    for line in MEASURED:
        terminalreporter.write_line(line)


MEASURED: list[str] = []


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In one process of several, hand on what was measured here."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["measured"] = MEASURED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    MEASURED.extend(getattr(node, "workeroutput", {}).get("measured", []))


@pytest.fixture(scope="session")
def measured() -> Callable[[str], None]:
    return MEASURED.append
