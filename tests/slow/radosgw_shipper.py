"""s3-shipper and a second S3 server: Ceph's radosgw, which refuses what moto lets pass.

python tests/slow/radosgw_shipper.py --seeds 12 --jobs 2     # a summary in Markdown on stdout
python tests/slow/radosgw_shipper.py --seeds 0               # without the torture
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import traceback
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import trustme

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
from sidecars.shipper.points import Point
from tests.servers import shipper_torture
from tests.servers.s3_proxy import Request, S3Proxy
from tests.servers.shipping import Bucket, Shipper, append, numbered
from tests.slow.ceph import NotStarted, Radosgw

INDEX = "%{path}%{index}.%{file_extension}"
NOT_NOW, NOT_ALLOWED = (
    "upload failed; it is tried again until it works",
    "upload refused; it is tried again until it is allowed",
)
IGNORES = "endpoint ignores If-None-Match; objects are looked up before each upload instead"
PATIENCE = 90.0


class Scene:
    """A bucket of its own with a proxy before it, a directory, and the shippers that are started there."""

    def __init__(self, server: Radosgw, directory: str, ending: contextlib.ExitStack) -> None:
        self.server = server
        self.logs = Path(directory, "logs")
        self.logs.mkdir()
        self.secrets = Path(directory, "secrets")
        self.stored = Bucket(server, f"case-{uuid.uuid4().hex[:12]}")
        server.make(self.stored.name)
        self.proxy = ending.enter_context(S3Proxy(server.endpoint))
        self._directory = directory
        self._ending = ending

    def shipper(self, *arguments: str | Path, pod: str = "pod0", crash_at: tuple[Point, int] | None = None) -> Shipper:
        """Start one, on a state directory that is the pod's."""
        environ = {
            **{name.upper(): value for name, value in self.server.credentials.items()},
            "POD_NAME": pod,
            "SHIPPER_BUCKET": self.stored.name,
            "SHIPPER_ENDPOINT": self.proxy.endpoint,
        }
        state = Path(self._directory, pod)
        return self._ending.enter_context(
            Shipper(*arguments, state=state, stored=lambda: self.stored.keys, crash_at=crash_at, environ=environ)
        )

    def encrypt(self) -> str:
        """Let another proxy take the place of the first, one that speaks TLS; give the file of its CA."""
        context, authority = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), trustme.CA()
        authority.issue_cert("127.0.0.1").configure_cert(context)
        authority.cert_pem.write_to_path(file := os.path.join(self._directory, "ca.pem"))
        self.proxy = self._ending.enter_context(S3Proxy(self.server.endpoint, tls=context))
        return file

    def mount(self, **files: str) -> None:
        """Put files into the secrets' directory, all at once and as kubelet does: through a link that is exchanged."""
        version = self.secrets / f"..{uuid.uuid4().hex}"
        version.mkdir(parents=True)
        for name, text in files.items():
            (version / name).write_text(text)
            if not (self.secrets / name).is_symlink():
                (self.secrets / name).symlink_to(f"..data/{name}")
        (self.secrets / "..next").symlink_to(version.name)
        (self.secrets / "..next").rename(self.secrets / "..data")

    def uploads(self) -> list[Request]:
        """Every upload of a chunk so far."""
        return [each for each in self.proxy.requests if each.method == "PUT" and "/.sidecars-probe-" not in each.path]

    def looks(self) -> int:
        """How often an object was looked up so far."""
        return sum(each.method == "HEAD" for each in self.proxy.requests)


def until_shipped(shipper: Shipper, lines: int) -> None:
    """Wait until it has seen so many lines arrive."""
    shipper.until(lambda: shipper.metric("shipper_lines_total") == lines, PATIENCE)


def the_check_finds_all_well_and_conditional_writes_honoured(scene: Scene) -> str:
    code, events = scene.shipper("--check", scene.logs / "a.log").ended()
    assert code == 0, events
    assert not any("ignores If-None-Match" in str(event) for event in events), events
    assert scene.server.keys(scene.stored.name) == [], "the empty object of the check is still there"
    return "exit code 0, no warning, nothing left in the bucket"


def a_wrong_secret_is_said_and_nothing_is_lost_until_the_right_one_is_mounted(scene: Scene) -> str:
    path, lines = scene.logs / "a.log", numbered(2000)
    right = scene.server.credentials
    scene.mount(id=right["aws_access_key_id"], secret="wrong" + right["aws_secret_access_key"][5:])
    keys = ("--access-key-id-file", scene.secrets / "id", "--secret-access-key-file", scene.secrets / "secret")
    append(path, b"".join(lines[:1000]))
    shipper = scene.shipper("--chunk-age=100ms", *keys, path)
    said = shipper.wait_for(NOT_ALLOWED, PATIENCE)
    assert (said["level"], said["code"]) == ("error", "SignatureDoesNotMatch"), said
    status, reason = shipper.ask("/healthz")
    assert status == 503, reason
    assert "SignatureDoesNotMatch" in reason, reason
    append(path, b"".join(lines[1000:]))
    shipper.until_kept(2000)
    assert scene.server.keys(scene.stored.name) == []
    answered = {each.status for each in scene.proxy.requests} - {None}  # one may be under way
    assert answered == {403}, answered
    scene.mount(id=right["aws_access_key_id"], secret=right["aws_secret_access_key"])
    until_shipped(shipper, 2000)
    shipper.until(lambda: shipper.ask("/healthz")[0] == 200)
    shipper.drained()
    assert scene.stored.lines == lines
    refused = sum(each.status == 403 for each in scene.proxy.requests)
    words = said["error"].rpartition(": ")[2]
    return f"{refused} answers 403, said as {words!r} and by /healthz; then 2,000 lines once, without a restart"


def a_body_that_is_corrupted_over_https_is_refused_by_its_md5_and_stored_as_it_was_sent(scene: Scene) -> str:
    return _corrupted(scene, "BadDigest", f"--ca-file={scene.encrypt()}")


def a_body_that_is_corrupted_over_http_is_refused_by_its_signature_and_stored_as_it_was_sent(scene: Scene) -> str:
    return _corrupted(scene, "XAmzContentSHA256Mismatch")


def _corrupted(scene: Scene, code: str, *options: str) -> str:
    lines = [b"line %07d %s\n" % (number, b"x" * 80) for number in range(200_000)]
    (scene.logs / "a.log").write_bytes(b"".join(lines))
    fault = scene.proxy.fault("corrupt", unnoticed=True, method="PUT", path="log", times=2)
    shipper = scene.shipper("--once", "--compress=none", *options, scene.logs / "a.log")
    said = shipper.wait_for(NOT_NOW, PATIENCE)
    assert said["code"] == code, said
    ended, _ = shipper.ended(PATIENCE)
    assert (ended, fault.committed) == (0, 2)
    assert [each.status for each in scene.uploads()] == [400, 400, 200]
    assert list(scene.stored.objects.values()) == [b"".join(lines)]
    return f"2 corrupted uploads of {scene.uploads()[0].length:,} bytes: 400 {code}; the third is stored"


def an_upload_whose_answer_was_lost_is_answered_412_and_taken_as_ours_without_a_look(scene: Scene) -> str:
    lines = numbered(500)
    for name in range(5):
        (scene.logs / f"{name}.log").write_bytes(b"".join(lines[name::5]))
    fault = scene.proxy.fault("lose", method="PUT", path="log.gz", times=3)
    shipper = scene.shipper("--once", "--tag=*", scene.logs / "*.log")
    code, events = shipper.ended(PATIENCE)
    assert (code, fault.committed) == (0, 3), events
    assert not any(event["event"] == IGNORES for event in events), events
    uploads = scene.uploads()
    lost = {each.path for each in uploads if each.status == 0}
    found = {each.path for each in uploads if each.status == 412}
    assert lost, uploads
    assert lost == found, uploads
    assert scene.looks() == 0
    assert (scene.stored.lines, len(scene.stored.keys)) == (lines, 5)
    return f"{len(lost)} objects whose answer was lost: 412, no HEAD, 500 lines once in 5 objects"


def one_that_is_killed_once_its_object_is_stored_finds_it_there_at_the_next_start(scene: Scene) -> str:
    lines = numbered(500)
    append(scene.logs / "a.log", b"".join(lines))
    for prefix, key in (("id/", "%{path}{chunk}.gz"), ("index/", INDEX)):
        options = ("--once", f"--prefix={prefix}", f"--key-format={key}", scene.logs / "a.log")
        killed = scene.shipper(*options, pod=prefix.strip("/"), crash_at=("object stored", 1))
        assert killed.wait(PATIENCE) == -signal.SIGKILL
        assert len(scene.stored.keys) == 1
        looks = scene.looks()
        code, events = scene.shipper(*options, pod=prefix.strip("/")).ended(PATIENCE)
        assert code == 0, events
        assert [each.status for each in scene.uploads()] == [200, 412]
        assert scene.looks() - looks == (prefix == "index/")
        assert scene.stored.lines == lines
        scene.server.client().delete_object(Bucket=scene.stored.name, Key=scene.stored.keys[0])
        scene.proxy.requests.clear()
    return "412, and with an index one HEAD; 500 lines once, under the same key"


def two_pods_with_one_prefix_and_an_index_take_turns(scene: Scene) -> str:
    lines: list[bytes] = []
    scene.proxy.fault("lose", method="PUT", path="log.gz", times=4)
    logs = {pod: scene.logs / f"{pod}.log" for pod in ("pod1", "pod2")}
    options = ("--chunk-age=100ms", f"--key-format={INDEX}")
    pods = {pod: scene.shipper(*options, path, pod=pod).watching() for pod, path in logs.items()}
    for number in range(10):
        for pod, path in logs.items():
            added = [b"%s %06d\n" % (pod.encode(), each) for each in range(100 * number, 100 * (number + 1))]
            append(path, b"".join(added))
            lines += added
        for shipper in pods.values():
            until_shipped(shipper, 100 * (number + 1))
    for shipper in pods.values():
        shipper.drained()
    assert scene.stored.lines == sorted(lines)
    indices = sorted(int(re.findall(r"^(\d+)\.log\.gz$", key)[0]) for key in scene.stored.keys)
    assert indices == list(range(len(indices))), indices
    assert all(len({line[:4] for line in body.splitlines()}) == 1 for body in scene.stored.objects.values())
    taken = sum(each.status == 412 for each in scene.uploads())
    assert taken, scene.uploads()
    assert scene.looks(), scene.uploads()
    return f"{taken} answers 412, {scene.looks()} HEAD; 2,000 lines once, indices 0 to {indices[-1]}, none left out"


CASES: tuple[Callable[[Scene], str], ...] = (
    the_check_finds_all_well_and_conditional_writes_honoured,
    a_wrong_secret_is_said_and_nothing_is_lost_until_the_right_one_is_mounted,
    a_body_that_is_corrupted_over_https_is_refused_by_its_md5_and_stored_as_it_was_sent,
    a_body_that_is_corrupted_over_http_is_refused_by_its_signature_and_stored_as_it_was_sent,
    an_upload_whose_answer_was_lost_is_answered_412_and_taken_as_ours_without_a_look,
    one_that_is_killed_once_its_object_is_stored_finds_it_there_at_the_next_start,
    two_pods_with_one_prefix_and_an_index_take_turns,
)


def seen(case: Callable[[Scene], str], server: Radosgw) -> str:
    """Run a case; give what was seen, or "" when it failed, which is then on stderr."""
    try:
        with tempfile.TemporaryDirectory(prefix="radosgw-") as directory, contextlib.ExitStack() as ending:
            return case(Scene(server, directory, ending))
    except (AssertionError, subprocess.TimeoutExpired):
        traceback.print_exc()
        return ""


def tortured(server: Radosgw, seeds: int, jobs: int) -> list[shipper_torture.Trial]:
    """Run the trials of the torture over moto, against this server."""

    def one(seed: int) -> shipper_torture.Trial:
        trial = shipper_torture.run(seed, server)
        print(f"{'ok  ' if trial.passed else 'FAIL'} {trial}", file=sys.stderr, flush=True)
        return trial

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(one, range(1, seeds + 1)))


def prove(server: Radosgw, seeds: int, jobs: int) -> bool:
    """Print what was seen, as it is seen; whether all was as it must be."""
    print(f"s3-shipper and radosgw, {server.version}\n")
    print("| case | seen |\n| --- | --- |", flush=True)
    results = []
    for case in CASES:
        results.append(seen(case, server))
        print(f"| {case.__name__.replace('_', ' ')} | {results[-1] or 'FAILED'} |", flush=True)
    trials = tortured(server, seeds, jobs)
    if trials:
        print(f"\n{shipper_torture.summary(trials)}")
    return all(results) and all(trial.passed for trial in trials)


def main() -> int:
    """Print what was seen; exit code 1 when something was not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=12, help="run the seeds 1 to N of the torture")
    parser.add_argument("--jobs", type=int, default=2, help="trials at a time")
    options = parser.parse_args()
    began = time.monotonic()
    try:
        with Radosgw() as server:
            well = prove(server, options.seeds, options.jobs)
    except NotStarted as error:
        print(error, file=sys.stderr)
        return 1
    print(f"\nIt took {time.monotonic() - began:.0f} s.")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
