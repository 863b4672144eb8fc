"""pod-init's images, run as an init container is: they work, end, and leave a reason."""

import pytest

import sidecars

ROOM = {"/data": "mode=1777"}


@pytest.fixture
def mounted(termination_log):
    return {str(termination_log): {"bind": "/dev/termination-log", "mode": "rw"}}


@pytest.fixture(params=["pod-init", "pod-init-full"])
def name(request):
    return request.param


def test_without_arguments_it_says_what_it_can_do(start, name):
    container = start(name)
    assert container.wait() == 2
    for subcommand in ("wait", "healthcheck", "copy", "fetch", "mkdir", "render", "write", "pause", "quit"):
        assert f"\n  {subcommand} " in container.stderr()


def test_a_time_that_is_up_is_124_and_the_reason_is_in_the_termination_message(start, mounted, termination_log):
    container = start("pod-init", "wait", "redis://127.0.0.1:6399", "--timeout", "1s", volumes=mounted)
    assert container.wait() == 124
    assert termination_log.read_text().startswith(
        "timed out after 1s: redis://127.0.0.1:6399: refused by 127.0.0.1:6399,"
    )


def test_what_can_never_come_is_125(start, mounted, termination_log):
    container = start("pod-init", "wait", "dns://no-such-name.invalid", volumes=mounted)
    assert container.wait() == 125
    assert "names in .invalid are reserved never to exist" in termination_log.read_text()


@pytest.mark.parametrize("signal", [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_ends_a_wait_at_once_and_is_not_taken_for_done(start, mounted, termination_log, signal):
    container = start("pod-init", "wait", "tcp://127.0.0.1:9", "--timeout", "10m", volumes=mounted)
    container.wait_for(lambda: "not yet" in container.stderr(), "wait")
    container.kill(signal=signal[0])
    assert container.wait() == signal[1]
    assert "tcp://127.0.0.1:9" in termination_log.read_text()


def test_a_pause_ends_with_0_when_it_is_told_to(start, mounted, termination_log):
    container = start("pod-init", "pause", volumes=mounted)
    container.wait_for(lambda: catches_sigchld(container), "pause")
    container.kill(signal="SIGTERM")
    assert container.wait() == 0
    assert termination_log.read_text() == ""


def catches_sigchld(container):
    """Whether process 1 has a handler for it: the last that a pause makes."""
    lines = container.python("print(open('/proc/1/status').read())").splitlines()
    return int(dict(line.split(":\t", 1) for line in lines if line)["SigCgt"], 16) >> 16 & 1


def test_what_it_runs_afterwards_takes_its_place(start):
    program = "import os, signal; print(os.getpid(), signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)"
    container = start("pod-init", "wait", "file:///usr", "--", "python", "-c", program)
    assert container.wait() == 0, container.stderr()
    assert container.stdout() == b"1 True\n"


def test_it_works_as_restricted_as_can_be(start):
    """Each on a volume that is everybody's, by a user that no image knows, on a root that nobody can write to."""
    words = {
        "mkdir": ["/data/cache", "--mode", "2775"],
        "copy": ["/usr/local/bin", "/data/bin"],
        "write": ["/data/mode", "--text", "production"],
        "wait": ["dns://localhost", "file:///data"],
    }
    for subcommand, arguments in words.items():
        container = start("pod-init", subcommand, *arguments, tmpfs=ROOM)
        assert container.wait() == 0, container.stderr()


def test_a_root_that_cannot_be_written_to_is_said(start, mounted, termination_log):
    assert start("pod-init", "mkdir", "/opt/log", volumes=mounted).wait() == 1
    assert "mount a volume there" in termination_log.read_text()


def test_it_is_small_while_it_waits(start, name, measured):
    container = start(name, "wait", "tcp://127.0.0.1:9", "redis://127.0.0.1:9", "--timeout", "10m")
    container.wait_for(lambda: container.stderr().count("not yet") == 2, "wait")
    lines = container.python("print(open('/proc/1/status').read())").splitlines()
    resident = int(dict(line.split(":\t", 1) for line in lines if line)["VmRSS"].split()[0]) / 1024
    measured(f"{name}: {resident:.1f} MiB resident while it waits for a port and a Redis")
    assert resident <= 32


def test_its_health_command_looks_once(start):
    container = start("pod-init", "pause", tmpfs=ROOM)
    assert container.run("pod-init", "healthcheck", "file:///data")[0] == 0
    code, said = container.run("pod-init", "healthcheck", "tcp://127.0.0.1:9")
    assert code == 1
    assert "refused by 127.0.0.1:9" in said


@pytest.fixture
def model(engine, tmp_path):
    """An image that is made FROM pod-init, with a few files in /payload."""
    payload = tmp_path / "payload"
    (payload / "vectors").mkdir(parents=True)
    for path in ("model.bin", ".version", "vectors/part-0"):
        (payload / path).write_text(path)
    (tmp_path / "Dockerfile").write_text("FROM sidecars/pod-init:latest\nCOPY payload /payload\n")
    image, _ = engine.images.build(path=str(tmp_path), tag="sidecars/test-model:1", rm=True)
    yield image
    engine.images.remove(image.id, force=True)


def test_an_image_made_from_it_copies_its_payload_by_itself_and_once(start, model, tmp_path):
    models = tmp_path / "models"
    models.mkdir()
    for path, mode in ((tmp_path, 0o755), (models, 0o777)):
        path.chmod(mode)
    said = []
    for _ in range(2):
        container = start("pod-init", made=model.id, volumes={str(models): {"bind": "/models", "mode": "rw"}})
        assert container.wait() == 0, container.stderr()
        said.append(container.stderr())
    assert {str(path.relative_to(models)) for path in models.rglob("*") if path.is_file()} == {
        ".pod-init.json",
        ".version",
        "model.bin",
        "vectors/part-0",
    }
    assert '"event": "copied"' in said[0]
    assert '"event": "unchanged"' in said[1]


def test_the_debug_variant_does_the_same_and_has_a_shell(engine, start, name):
    tag = f"{sidecars.__version__}-debug"
    same = ("User", "Entrypoint", "StopSignal")
    plain, debug = (engine.images.get(f"sidecars/{name}:{each}").attrs["Config"] for each in ("latest", tag))
    assert {key: debug[key] for key in same} == {key: plain[key] for key in same}
    container = start(name, "wait", "file:///usr", "--", "sh", "-c", "echo $0 is a shell", tag=tag)
    assert container.wait() == 0, container.stderr()
    assert container.stdout() == b"sh is a shell\n"


def test_every_kind_of_archive_can_be_unpacked(start, name):
    """What unpacks them is imported only when one comes."""
    assert start(name, "-c", "import bz2, gzip, lzma, tarfile, zipfile, zstandard", entrypoint="python").wait() == 0


def test_the_small_image_names_the_large_one_where_that_is_needed(start):
    assert start("pod-init-full", "-c", "import boto3, git", entrypoint="python").wait() == 0
    container = start("pod-init", "fetch", "s3://models/v3/", "/data/models", tmpfs=ROOM)
    assert container.wait() == 2
    assert "pod-init-full" in container.stderr()


def test_git_and_ssh_are_in_the_large_image(start):
    """ssh wants a user that the image knows."""
    for program in (["git", "--version"], ["ssh", "-V"]):
        container = start("pod-init-full", *program[1:], entrypoint=program[0], user=None)
        assert container.wait() == 0, container.stderr()


def test_it_runs_ssh_for_git_without_a_shell(start):
    words = ("fetch", "git+ssh://git@127.0.0.1:1/site.git", "/data/site", "--timeout", "2s")
    container = start("pod-init-full", *words, tmpfs=ROOM, user=None)
    assert container.wait() == 124
    assert "ssh: connect to host 127.0.0.1 port 1: Connection refused" in container.stderr()
