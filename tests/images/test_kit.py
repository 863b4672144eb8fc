"""The lifecycle kit: what every image of ours keeps, whatever it does. An image joins by its line in conftest.py."""

import gzip
import io
import json
import os
import signal
import tarfile
import time

import pytest

import sidecars

SHELLS = {"sh", "ash", "bash", "dash", "busybox", "csh", "fish", "ksh", "tcsh", "zsh"}
INSTALLERS = {"apk", "apt", "apt-get", "dpkg", "easy_install", "ensurepip", "pip", "pip3", "rpm", "uv"}
TOOLS = {"curl", "gcc", "ld", "nc", "perl", "wget"}


@pytest.fixture(scope="module")
def files(engine, request):
    """Every entry of an image's file system, by image; read once."""
    read: dict[str, list[tarfile.TarInfo]] = {}

    def files(image):
        if image.name not in read:
            container = engine.containers.create(f"sidecars/{image.name}:latest")
            try:
                with tarfile.open(fileobj=io.BytesIO(b"".join(container.export()))) as archive:
                    read[image.name] = archive.getmembers()
            finally:
                container.remove()
        return read[image.name]

    return files


# ------------------------------------------------------------------------------------------------ what is in it


def test_the_settings_of_the_image_are_what_kubelet_and_compose_need(engine, any_image):
    config = engine.images.get(f"sidecars/{any_image.name}:latest").attrs["Config"]
    assert config["User"] == any_image.user
    assert config["Entrypoint"] == [any_image.command or any_image.name]
    assert not config["Cmd"]
    assert config["StopSignal"] == "SIGTERM"
    assert set(config.get("ExposedPorts") or ()) == {f"{port}/tcp" for port in any_image.ports}
    health = config.get("Healthcheck")
    assert health["Test"] == ["CMD", config["Entrypoint"][0], "healthcheck"] if any_image.port else health is None


def test_the_labels_say_what_it_is_and_where_it_is_from(engine, any_image):
    labels = engine.images.get(f"sidecars/{any_image.name}:latest").labels
    said = {key.removeprefix("org.opencontainers.image."): value for key, value in labels.items()}
    assert said["title"] == any_image.name
    assert said["version"] == sidecars.__version__
    assert said["licenses"] == "Apache-2.0"
    assert said["description"] and said["vendor"] and said["revision"]


def test_there_is_nothing_to_run_but_its_own_command(any_image, files):
    programs = {os.path.basename(file.name) for file in files(any_image) if not file.isdir()}
    assert programs & (SHELLS | INSTALLERS | TOOLS) == any_image.tools


def test_a_scanner_finds_which_packages_of_debian_are_in_it(any_image, files):
    recorded = {os.path.basename(file.name) for file in files(any_image) if "var/lib/dpkg/status.d/" in file.name}
    assert {"libc6", "zlib1g"} <= recorded


def test_no_file_gives_rights_or_takes_changes_from_everyone(any_image, files):
    assert not [file.name for file in files(any_image) if file.mode & 0o6000 and not file.isdir()]
    writable = [file.name for file in files(any_image) if file.mode & 0o002 and not file.issym()]
    assert sorted(name.removesuffix("/") for name in writable) == sorted(["tmp", *any_image.writable])


def test_it_keeps_within_its_budget_of_size(engine, any_image, measured):
    saved = io.BytesIO(b"".join(engine.images.get(f"sidecars/{any_image.name}:latest").save()))
    compressed = 0
    with tarfile.open(fileobj=saved) as archive:
        for layer in json.load(archive.extractfile("manifest.json"))[0]["Layers"]:
            compressed += len(gzip.compress(archive.extractfile(layer).read(), 6))
    size = engine.images.get(f"sidecars/{any_image.name}:latest").attrs["Size"]
    measured(f"{any_image.name}: {size / 1e6:.1f} MB, {compressed / 1e6:.1f} MB compressed")
    assert size <= any_image.megabytes * 1e6
    assert compressed <= any_image.compressed * 1e6


def test_every_module_of_it_can_be_imported(any_image, start):
    """What was left out of the standard library is not missed, not even by what is imported late."""
    program = """
import importlib, os, pkgutil, sidecars
for module in pkgutil.walk_packages(sidecars.__path__, "sidecars."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
        print(module.name)
"""
    container = start(any_image, "-c", program, entrypoint="python")
    assert container.wait() == 0, container.stderr()
    assert "sidecars.core.service" in container.stdout().decode().split()


def test_all_its_bytecode_is_there(any_image, files):
    """Without it each start on a read-only root compiles anew, for seconds."""
    names = {file.name for file in files(any_image)}
    sources = [name for name in names if "/lib/python3." in name and name.endswith(".py")]
    assert len(sources) > 300
    assert not [name for name in sources if not any(compiled in names for compiled in bytecode_of(name))]


def bytecode_of(source):
    folder, name = os.path.split(source)
    return [f"{folder}/__pycache__/{name[:-3]}.cpython-3{minor}.pyc" for minor in range(11, 20)]


# ---------------------------------------------------------------------------------------------- how it is held


def test_it_runs_without_rights_of_any_kind(idle):
    status = dict(
        line.split(":\t", 1) for line in idle.python("print(open('/proc/1/status').read())").splitlines() if line
    )
    assert status["Uid"].split() == ["12345"] * 4
    assert status["Gid"].split() == ["0"] * 4
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"


def test_it_runs_by_its_own_user_too(image, start):
    container = start(image, *image.idle, user=None).wait_until_ready()
    assert container.python("import os; print(os.getuid(), os.getgid())").split() == image.user.split(":")


# PID 1, or if that is but a parent, the child that does the work.
RESIDENT = """
import pathlib
texts = [path.read_text().splitlines() for path in pathlib.Path("/proc").glob("[0-9]*/status")]
facts = [dict(line.split(":\\t", 1) for line in text if ":\\t" in line) for text in texts]
print(max(int(fact["VmRSS"].split()[0]) for fact in facts if fact["Pid"] == "1" or fact["PPid"] == "1"))
"""


def test_it_keeps_within_its_budget_of_memory(image, idle, measured):
    resident = int(idle.python(RESIDENT)) / 1024
    measured(f"{image.name}: {resident:.1f} MiB resident when idle")
    assert resident <= image.memory


def test_it_is_ready_soon(image, start, measured):
    """A figure, not a promise: from the start of the process to the first 200 of /readyz, seen from inside."""
    times = sorted(seconds_to_ready(image, start) for _ in range(3))
    measured(f"{image.name}: ready {times[1]:.3f} s after the start of its process (median of 3)")


def seconds_to_ready(image, start):
    program = """
import http.client, os, subprocess, sys, time
began = time.monotonic()
process = subprocess.Popen(sys.argv[2:])
while process.poll() is None:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
        connection.request("GET", "/readyz")
        if connection.getresponse().status == 200:
            break
    except OSError:
        time.sleep(0.001)
print(time.monotonic() - began, flush=True)
process.terminate()
sys.exit(process.wait())
"""
    container = start(image, "-c", program, str(image.port), image.name, *image.idle, entrypoint="python")
    assert container.wait() == 0, container.stderr()
    return float(container.stdout())


# -------------------------------------------------------------------------------------------- how it ends


def test_sigterm_ends_it_with_exit_code_0(image, start):
    container = start(image, *image.idle).wait_until_ready()
    container.kill(signal="SIGTERM")
    assert container.wait() == 0


def test_sigterm_before_it_is_ready_is_not_lost(image, start):
    """PID 1 ignores a signal that it has no handler for: the pod would wait for its whole grace period.

    The few milliseconds in which Python itself starts are beyond us; from its first line on, the program holds signals.
    """
    container = start(image, *image.idle)
    container.reload()
    process = container.attrs["State"]["Pid"]
    if not os.path.exists(f"/proc/{process}/status"):
        pytest.skip("THE FIRST MOMENTS ARE NOT TESTED: the engine's processes are on another machine")
    container.wait_for(lambda: holds_sigterm(process), "hold signals")
    container.kill(signal="SIGTERM")
    assert container.wait() == 0


def holds_sigterm(process):
    # A parent that hands signals on does so once it has a child: while it waits for them, no mask shows it.
    with open(f"/proc/{process}/task/{process}/children") as file:
        if file.read():
            return True
    with open(f"/proc/{process}/status") as file:
        masks = dict(line.split(":\t", 1) for line in file)
    return (int(masks["SigBlk"], 16) | int(masks["SigCgt"], 16)) >> (signal.SIGTERM - 1) & 1


def test_a_second_signal_stops_at_once(lingering):
    lingering.kill(signal="SIGTERM")
    lingering.wait_for(lambda: not lingering.is_ready(), "drain")
    began = time.monotonic()
    lingering.kill(signal="SIGTERM")
    lingering.wait()
    assert time.monotonic() - began < 5


def test_draining_it_is_alive_but_not_ready(lingering):
    lingering.kill(signal="SIGTERM")
    lingering.wait_for(lambda: not lingering.is_ready(), "drain")
    assert lingering.get("/readyz")[0] == 503
    assert lingering.get("/livez")[0] == 200
    assert lingering.get("/metrics")[0] == 200


def test_an_unknown_flag_is_exit_code_2_and_the_nearest_is_named(image, start):
    container = start(image, *image.idle, "--grce", "5s")
    assert container.wait() == 2
    assert "--grce" in container.stderr()
    assert "--grace" in container.stderr()
    assert "Traceback" not in container.stderr()


def test_a_wrong_value_says_what_was_expected(image, start):
    container = start(image, *image.idle, environment={f"{image.prefix}GRACE": "soon"})
    assert container.wait() == image.wrong_variable
    assert "soon" in container.stderr()
    assert "90s" in container.stderr()


def test_the_reason_of_a_failure_is_in_the_termination_message(image, start, termination_log):
    mounts = {str(termination_log): {"bind": "/dev/termination-log", "mode": "rw"}}
    assert start(image, *image.idle, "--grce", "5s", volumes=mounts).wait() == 2
    assert "--grce" in termination_log.read_text()
    assert len(termination_log.read_bytes()) <= 1024


def test_a_clean_end_leaves_no_termination_message(image, start, termination_log):
    mounts = {str(termination_log): {"bind": "/dev/termination-log", "mode": "rw"}}
    container = start(image, *image.idle, volumes=mounts).wait_until_ready()
    container.kill(signal="SIGTERM")
    assert container.wait() == 0
    assert termination_log.read_bytes() == b""


def test_a_taken_port_is_exit_code_2_and_names_the_flag(image, start, idle):
    asked = () if image.insists else ("--admin", f":{image.port}")
    container = start(image, *image.idle, *asked, network_mode=f"container:{idle.id}", ports=None)
    assert container.wait() == 2
    assert "--admin" in container.stderr()


# ---------------------------------------------------------------------------------------------- its children

SERVICE_WITH_CHILDREN = """
import asyncio, os, sys
from sidecars.core import program
from sidecars.core.settings import Common

class Settings(Common, frozen=True, kw_only=True):
    "Start children."

class Parent:
    async def run(self, life):
        for code in (0, 7, 255):
            child = await asyncio.create_subprocess_exec("python", "-c", f"import sys; sys.exit({code})")
            print("child", await child.wait(), flush=True)
        # Its own child ends at once; the grandchild outlives it, and becomes PID 1's.
        script = "import os, time\\nif os.fork() == 0:\\n    os.close(1)\\n    time.sleep(0.2)"
        for _ in range(5):
            child = await asyncio.create_subprocess_exec("python", "-c", script)
            await child.wait()
        while len(others()) > 0:
            await asyncio.sleep(0.02)
        print("parent is", os.getppid(), flush=True)
        print("only us", flush=True)
        await life.drain.wait()
        print("drained", flush=True)
        sys.stdout.flush()

    def undelivered(self):
        return None

    def status(self):
        return {}

def others():
    return [pid for pid in os.listdir("/proc") if pid.isdigit() and int(pid) not in (1, os.getpid())]

program.main(lambda: (Settings, lambda settings: Parent()), name="parent", prefix="PARENT", children=True)
"""


def test_children_keep_their_exit_codes_and_orphans_are_reaped(image, start):
    container = start(image, "-c", SERVICE_WITH_CHILDREN, entrypoint="python")
    container.wait_for(lambda: b"only us" in container.stdout(), "reap")
    assert container.stdout().decode().split("\n")[:4] == ["child 0", "child 7", "child 255", "parent is 1"]
    container.kill(signal="SIGTERM")
    assert container.wait() == 0
    assert container.stdout().endswith(b"drained\n")


# ------------------------------------------------------------------------------------------- its health command


def test_the_engine_finds_it_healthy(image, start):
    container = start(image, *image.idle, healthcheck={"interval": 500_000_000})
    container.wait_for(lambda: container.attrs["State"]["Health"]["Status"] == "healthy", "be healthy")


@pytest.mark.parametrize("words", ["healthcheck", "healthcheck readyz", "healthcheck livez", "healthcheck startupz"])
def test_its_health_command_says_0_when_all_is_well(image, idle, words):
    code, output = idle.run(image.name, *words.split())
    assert code == 0, output


def test_its_health_command_finds_a_door_that_a_variable_has_moved(image, start):
    container = start(image, *image.idle, environment={f"{image.prefix}ADMIN": "127.0.0.1:7777"})
    container.wait_for(lambda: container.run(image.name, "healthcheck")[0] == 0, "be healthy on port 7777")


def test_its_health_command_finds_a_door_that_a_flag_has_moved(image, start):
    container = start(image, *image.idle, "--admin", "127.0.0.1:7777")
    container.wait_for(lambda: container.run(image.name, "healthcheck")[0] == 0, "be healthy on port 7777")


def test_its_health_command_says_1_and_why_while_it_drains(image, lingering):
    lingering.kill(signal="SIGTERM")
    lingering.wait_for(lambda: not lingering.is_ready(), "drain")
    code, output = lingering.run(image.name, "healthcheck", "readyz")
    assert code == 1
    assert "SIGTERM" in output
    assert lingering.run(image.name, "healthcheck", "livez")[0] == 0


# ------------------------------------------------------------------------------------------------ its admin door

FROM_INSIDE = """
import http.client, json, sys
method, port, path, headers = sys.argv[1:]
connection = http.client.HTTPConnection("127.0.0.1", int(port))
connection.request(method, path, headers=json.loads(headers))
answer = connection.getresponse()
print(answer.status, answer.read().decode(), flush=True)
"""


def ask_inside(container, image, method, path, **headers):
    # Not its exit code: it ends with the container if it has asked for that.
    _, answer = container.run("python", "-c", FROM_INSIDE, method, str(image.port), path, json.dumps(headers))
    return int(answer.partition(" ")[0])


@pytest.mark.parametrize("path", ["/startupz", "/livez", "/readyz", "/healthz", "/metrics"])
def test_probes_and_metrics_are_open_to_the_cluster(idle, path):
    assert idle.get(path)[0] == 200


@pytest.mark.parametrize("path", ["/", "/status"])
def test_pages_are_open_to_the_pod_alone(image, idle, path):
    assert idle.get(path)[0] == 403
    assert ask_inside(idle, image, "GET", path) == 200


def test_pages_are_open_to_all_on_request(image, start):
    container = start(image, *image.idle, "--admin-pages", "all").wait_until_ready()
    assert container.get("/")[0] == container.get("/status")[0] == 200


def test_a_command_is_off_unless_it_is_allowed(image, idle):
    assert ask_inside(idle, image, "POST", "/quitquitquit", **{"X-Sidecars": "1"}) == 403


def test_a_command_is_taken_from_the_pod_alone_and_from_no_browser(image, start):
    container = start(image, *image.idle, "--admin-post").wait_until_ready()
    assert container.ask("POST", "/quitquitquit", {"X-Sidecars": "1"})[0] == 403
    assert ask_inside(container, image, "POST", "/quitquitquit") == 403
    assert ask_inside(container, image, "POST", "/quitquitquit", **{"X-Sidecars": "1", "Origin": "http://evil"}) == 403
    assert ask_inside(container, image, "POST", "/quitquitquit", **{"X-Sidecars": "1", "Host": "evil.example"}) == 403
    assert container.is_ready()
    assert ask_inside(container, image, "POST", "/quitquitquit", **{"X-Sidecars": "1"}) == 200
    assert container.wait() == 0


def test_a_secret_is_shown_nowhere(image, start):
    secret = "correct-horse-battery"
    options = {"environment": {image.secret: secret, **image.beside_secret}}
    container = start(image, *image.idle, *image.secretive, "--admin-pages", "all", "--log-level", "debug", **options)
    container.wait_until_ready()
    seen = [container.get(path)[1] for path in ("/", "/status", "/metrics", "/healthz")]
    container.kill(signal="SIGTERM")
    container.wait()
    seen += [container.stderr(), container.stdout().decode()]
    assert all(seen[:3])
    assert not [text for text in seen if secret in text]


# ---------------------------------------------------------------------------------------------- its debug variant


def test_the_debug_variant_does_the_same_and_has_a_shell(engine, image, start):
    tag = f"{sidecars.__version__}-debug"
    same = ("User", "Entrypoint", "Healthcheck", "StopSignal", "ExposedPorts")
    plain, debug = (engine.images.get(f"sidecars/{image.name}:{each}").attrs["Config"] for each in ("latest", tag))
    assert {key: debug[key] for key in same} == {key: plain[key] for key in same}
    container = start(image, *image.idle, tag=tag).wait_until_ready()
    assert container.run("sh", "-c", "echo $0 is a shell") == (0, "sh is a shell\n")
    container.kill(signal=signal.SIGTERM.name)
    assert container.wait() == 0
