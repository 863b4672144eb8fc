"""pod-init copy, met as a pod meets it: exit codes, termination messages, and what is in DEST afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers.initializing import AS_OTHER, PATIENCE, ROOT, Done, content, ended, init, start, tree
from tests.servers.process import as_root

MANIFEST, STAGING = ".pod-init.json", ".pod-init"

Copy = Callable[..., Done]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A directory with all that a copy may meet."""
    root = tmp_path / "src"
    for folder in ("a/b", "empty", ".hidden", "closed"):
        (root / folder).mkdir(parents=True)
    for number, name in enumerate(("a/b/deep", "a/x.bin", ".hidden/.f", "top", "closed/in")):
        (root / name).write_bytes(random.Random(number).randbytes(1000 * number))
    (root / "script").write_text("#!/bin/sh\n")
    (root / "script").chmod(0o755)
    (root / "nothing").touch()
    (root / "read-only").touch(0o444)
    for name, target in (("to-dir", "a"), ("dangling", "no/where"), ("absolute", "/etc"), ("up", "../x")):
        (root / name).symlink_to(target)
    os.link(root / "top", root / "hard")
    (root / os.fsdecode(b"\xff\xfe not utf-8 \n")).write_text("x")
    os.utime(root / "top", ns=(0, 1_000_000_000_123_456_789))
    (root / "closed").chmod(0o555)
    return root


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return tmp_path / "dest"


@pytest.fixture
def copy(tmp_path: Path, source: Path, dest: Path) -> Copy:
    return lambda *words, **options: init(tmp_path, "copy", source, dest, *words, **options)


def stamps(root: Path) -> dict[str, int]:
    """When each entry was last written, so that what is left alone is known."""
    return {str(path): path.lstat().st_ino for path in root.rglob("*") if path.name != MANIFEST}


@pytest.mark.parametrize("there", [False, True])
def test_dest_holds_what_src_does_and_again_it_is_left_alone(
    copy: Copy, source: Path, dest: Path, tmp_path: Path, there: bool
) -> None:
    if there:
        dest.mkdir()
        (dest / "theirs").touch()
    done = copy().well().said("copied")
    assert (done["files"], done["bytes"]) == (
        10,
        sum(os.path.getsize(p) for p in source.rglob("*") if p.is_file() and not p.is_symlink()),
    )
    expected = content(source) | ({b"theirs": content(dest)[b"theirs"]} if there else {})
    assert content(dest) == expected
    assert sorted(os.listdir(tmp_path)) == ["dest", "src"] and not (dest / STAGING).exists()
    before = stamps(dest)
    assert copy().well().said("unchanged")["kept"] == 10
    assert stamps(dest) == before


def test_the_manifest_says_what_is_there(copy: Copy, source: Path, dest: Path) -> None:
    copy("--verify").well()
    told = json.loads((dest / MANIFEST).read_text())
    assert (told["version"], told["source"]) == (1, str(source))
    assert told["entries"]["a/b"] == {"kind": "dir", "mode": 0o755}
    digest = subprocess.run(["sha256sum", source / "top"], capture_output=True, text=True).stdout.split()[0]
    assert told["entries"]["top"] == {
        "kind": "file", "size": 3000, "mtime_ns": 1_000_000_000_123_456_789, "mode": 0o644, "sha256": digest,
    }  # fmt: skip


def test_only_what_has_changed_is_copied_again(copy: Copy, source: Path, dest: Path) -> None:
    copy().well()
    before = stamps(dest)
    (source / "a" / "x.bin").write_bytes(b"other")
    (source / "top").chmod(0o600)
    (source / "up").unlink()
    done = copy().well().said("copied")
    assert (done["files"], done["kept"], done["bytes"]) == (1, 9, 5)
    gone = {b"up": ("link", b"../x")}
    assert content(dest) == content(source) | gone
    assert {path for path, inode in stamps(dest).items() if before[path] != inode} == {str(dest / "a" / "x.bin")}


def test_what_is_damaged_in_dest_is_mended(copy: Copy, source: Path, dest: Path) -> None:
    copy().well()
    (dest / "a" / "b" / "deep").write_text("truncated by somebody")
    shutil.rmtree(dest / "empty")
    (dest / "to-dir").unlink()
    (dest / "nothing").unlink()
    (dest / "nothing").symlink_to(source / "script")
    copy().well()
    assert content(dest) == content(source) and (source / "script").read_text() == "#!/bin/sh\n"


def test_mirror_removes_what_is_not_in_src_but_what_is_excluded(copy: Copy, source: Path, dest: Path) -> None:
    for file in ("old/x", "old/keep.log", "a/stale", "lost+found/x", "top/was/a/directory"):
        (dest / file).parent.mkdir(parents=True, exist_ok=True)
        (dest / file).touch()
    copy("--mirror", "--exclude", "*.log").well()
    kept = {b"old", b"old/keep.log", b"lost+found", b"lost+found/x"}
    assert content(dest).keys() ^ content(source).keys() == kept
    (dest / "new").touch()
    copy().well()
    assert (dest / "new").exists()
    copy("--mirror", "--exclude", "*.log").well()
    assert not (dest / "new").exists()


def test_modes_can_be_given_and_patterns_choose(copy: Copy, dest: Path) -> None:
    copy("--mode", "0640", "--dir-mode", "0750", "--include", "*.bin", "--include", "deep", "--exclude", "b").well()
    assert {path: entry[:2] for path, entry in content(dest).items()} == {b"a": ("dir", 0o750),
                                                                         b"a/x.bin": ("file", 0o640)}  # fmt: skip
    assert dest.stat().st_mode & 0o7777 == 0o750


def test_links_can_be_followed(copy: Copy, source: Path, dest: Path) -> None:
    assert "dangling leads nowhere" in copy("--links", "follow", "--exclude", "absolute").failed(1)
    copy("--links", "follow", "--exclude", "dangling", "--exclude", "absolute", "--exclude", "up").well()
    assert not (dest / "to-dir").is_symlink()
    assert (dest / "to-dir" / "x.bin").read_bytes() == (source / "a" / "x.bin").read_bytes()


def test_setgid_of_the_volume_stays_and_a_file_acts_as_nobody_else(copy: Copy, source: Path, dest: Path) -> None:
    dest.mkdir()
    dest.chmod(0o2775)
    (source / "script").chmod(0o6755)
    copy().well()
    assert dest.stat().st_mode & 0o7777 == 0o2775
    assert (dest / "a" / "b").stat().st_mode & 0o7777 == 0o2755
    assert (dest / "script").stat().st_mode & 0o7777 == 0o755


def test_holes_stay_holes(copy: Copy, source: Path, dest: Path) -> None:
    for name, parts in (("sparse", (0, 5 << 20)), ("all-hole", ())):
        with open(source / name, "wb") as file:
            for offset in parts:
                file.seek(offset)
                file.write(b"data")
            file.truncate(10 << 20)
    copy("--verify").well()
    assert (dest / "sparse").stat().st_size == 10 << 20 and (dest / "sparse").stat().st_blocks * 512 < 1 << 20
    assert subprocess.run(["cmp", source / "sparse", dest / "sparse"]).returncode == 0
    assert (dest / "all-hole").stat().st_blocks == 0


def test_ten_thousand_files(tmp_path: Path) -> None:
    """In memory, where there is some: it is the number that counts, not the disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else tmp_path) as folder:
        for number in range(10_000):
            if number % 100 == 0:
                os.makedirs(f"{folder}/src/{number // 100}")
            os.mknod(f"{folder}/src/{number // 100}/{number}")
        words = ("copy", f"{folder}/src", f"{folder}/dest")
        assert init(tmp_path, *words).well().said("copied")["files"] == 10_000
        assert init(tmp_path, *words).well().said("unchanged")["kept"] == 10_000
        assert sum(len(files) for _, _, files in os.walk(f"{folder}/dest")) == 10_001


def test_verify_finds_a_flipped_byte_that_size_and_time_hide(copy: Copy, source: Path, dest: Path) -> None:
    copy("--verify").well()
    status = (dest / "top").stat()
    data = bytearray((dest / "top").read_bytes())
    data[1500] ^= 1
    (dest / "top").write_bytes(data)
    os.utime(dest / "top", ns=(status.st_atime_ns, status.st_mtime_ns))
    copy().well().said("unchanged")
    assert copy("--verify").well().said("copied")["files"] == 1
    assert content(dest) == content(source)
    assert copy("--verify").well().said("unchanged")["kept"] == 10


def test_another_version_whose_files_have_the_same_size_and_time_is_copied(
    copy: Copy, source: Path, dest: Path
) -> None:
    """As two reproducible images have it."""
    copy().well()
    status = (source / "top").stat()
    (source / "top").write_bytes(bytes(status.st_size))
    os.utime(source / "top", ns=(0, status.st_mtime_ns))
    done = copy().well().said("copied")
    assert (done["files"], done["kept"]) == (2, 8)  # one of them by its other name
    assert content(dest) == content(source)
    copy().well().said("unchanged")


def test_after_another_boot_files_are_read_before_they_are_believed(copy: Copy, source: Path, dest: Path) -> None:
    copy().well()
    status = (dest / "top").stat()
    (dest / "top").write_bytes(bytes(status.st_size))  # what a crash of the machine leaves
    os.utime(dest / "top", ns=(0, status.st_mtime_ns))
    told = json.loads((dest / MANIFEST).read_text())
    (dest / MANIFEST).write_text(json.dumps({**told, "boot": "another"}))
    assert copy().well().said("copied")["files"] == 1
    assert content(dest) == content(source)


@as_root
def test_so_are_those_that_a_crash_has_left_without_a_manifest(copy: Copy, source: Path, dest: Path) -> None:
    copy().well()
    status = (dest / "top").stat()
    (dest / "top").write_bytes(bytes(status.st_size))
    os.utime(dest / "top", ns=(0, status.st_mtime_ns))
    (dest / MANIFEST).unlink()
    # In a time namespace whose machine was booted just now, whole seconds ago: after the files were written.
    since = uptime()
    deadline = time.monotonic() + PATIENCE
    while (now := uptime()) == since:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    under = ("unshare", "--time", "--fork", f"--boottime={-now}", "--")
    assert copy(under=under).well().said("copied")["files"] == 1
    assert content(dest) == content(source)


def uptime() -> int:
    """Whole seconds since the boot."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME))


def test_what_an_interrupted_run_has_staged_is_used_or_thrown_away(copy: Copy, source: Path, dest: Path) -> None:
    staging = dest.parent / f".dest{STAGING}"
    staging.mkdir()
    shutil.copy2(source / "top", staging / "top")
    (staging / "a").write_text("a file where a directory goes")
    (staging / "script").mkdir()
    (staging / "closed").mkdir(0o555)
    (staging / "of another source" / "x").mkdir(parents=True)
    (staging / "a.link").symlink_to(dest.parent)
    (staging / "nothing").write_text("half")
    inode = (staging / "top").stat().st_ino
    copy().well()
    assert content(dest) == content(source) and (dest / "top").stat().st_ino == inode
    assert sorted(os.listdir(dest.parent)) == ["dest", "src"]


def test_leftovers_of_a_killed_run_go_even_if_dest_is_complete(copy: Copy, source: Path, dest: Path) -> None:
    copy().well()
    (dest / STAGING / "d").mkdir(parents=True)
    (dest.parent / f".dest{STAGING}").mkdir()
    copy().well().said("unchanged")
    assert content(dest, ours=True).keys() - content(source).keys() == {MANIFEST.encode()}
    assert sorted(os.listdir(dest.parent)) == ["dest", "src"]


def test_two_at_once_wait_for_each_other(copy: Copy, source: Path, dest: Path, tmp_path: Path) -> None:
    with open(source / "big", "wb") as file:
        file.write(random.Random(1).randbytes(8 << 20))
    several = [start(tmp_path, "copy", source, dest, "--verify") for _ in range(3)]
    for each in several:
        ended(tmp_path, each).well()
    assert content(dest) == content(source)
    assert sorted(os.listdir(tmp_path)) == ["dest", "src"]


def test_who_waits_for_another_gives_up_when_its_time_is_over(copy: Copy, dest: Path) -> None:
    (dest / STAGING).mkdir(parents=True)
    with contextlib.ExitStack() as held:
        held.enter_context(flocked(dest / STAGING))
        assert "is being filled by another process" in copy("--timeout", "100ms").failed(124)
    copy().well()


@contextlib.contextmanager
def flocked(path: Path) -> Iterator[None]:
    process = subprocess.Popen(
        ["flock", path, "sh", "-c", "echo; exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout and process.stdin
    process.stdout.readline()
    yield
    process.communicate()


def test_sigterm_ends_it_as_that_signal_and_the_next_run_completes(
    copy: Copy, source: Path, dest: Path, tmp_path: Path
) -> None:
    for number in range(8):
        with open(source / f"big{number}", "wb") as file:
            file.truncate(4 << 30)
            file.write(b"x")
    process = start(tmp_path, "copy", source, dest, "--verify", "--jobs", "2")
    deadline = time.monotonic() + PATIENCE
    while not list(tmp_path.glob(f".dest{STAGING}/big*")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    assert "ended by SIGTERM" in ended(tmp_path, process).failed(143)
    assert not dest.exists()
    for path in source.glob("big*"):
        path.unlink()
    copy().well()
    assert content(dest) == content(source)


def test_the_time_can_be_limited(copy: Copy, source: Path, dest: Path) -> None:
    with open(source / "big", "wb") as file:
        file.truncate(64 << 30)
    assert "not done within 0.3 s; give more --timeout" in copy("--verify", "--timeout", "300ms").failed(124)
    assert not dest.exists()


def test_a_program_that_runs_is_replaced(copy: Copy, source: Path, dest: Path) -> None:
    shutil.copy2("/bin/sleep", source / "program")
    copy().well()
    with contextlib.ExitStack() as running:
        process = running.enter_context(subprocess.Popen([dest / "program", "60"]))
        running.callback(process.kill)
        shutil.copy2("/bin/cat", source / "program")
        copy().well()
        assert (dest / "program").read_bytes() == (source / "program").read_bytes()
        assert process.poll() is None


@as_root
def test_another_user_needs_no_rights_that_it_has_not(copy: Copy, source: Path, dest: Path) -> None:
    os.chown(dest.parent, 12345, 12345)
    source.chmod(0o555)
    copy(under=AS_OTHER).well()
    assert content(dest) == content(source) and dest.stat().st_uid == 12345
    (source / "closed" / "in").write_text("changed")
    (source / "closed" / "more").mkdir()
    copy("--mirror", under=AS_OTHER).well()
    assert content(dest) == content(source)
    (source / "closed" / "in").unlink()
    dest.chmod(0o555)
    copy("--mirror", under=AS_OTHER).well()
    assert content(dest) == content(source) and dest.stat().st_mode & 0o777 == 0o555


@as_root
def test_what_may_not_be_written_is_said_with_what_to_do(copy: Copy, source: Path, dest: Path, tmp_path: Path) -> None:
    dest.mkdir()
    reason = copy(under=AS_OTHER, env={"INIT_TERMINATION_LOG": "/dev/null"})
    assert reason.code == 1
    assert (
        f"cannot copy {source} to {dest}: Permission denied ({dest}/.pod-init); give the pod an fsGroup"
        in reason.said("failed")["reason"]
    )
    (source / "top").chmod(0o600)
    os.chown(tmp_path, 12345, 12345)
    without = tuple(word for word in AS_OTHER if "dac_read_search" not in word)
    readable = subprocess.run([*without, "test", "-x", ROOT / ".venv" / "bin" / "python"]).returncode == 0
    if readable:
        assert "Permission denied" in copy(under=without).failed(1)


@as_root
@pytest.mark.parametrize("options", ["ro", "size=1M,mode=0777"])
def test_a_read_only_or_full_volume_is_an_error_that_says_so(
    tmp_path: Path, source: Path, dest: Path, options: str
) -> None:
    dest.mkdir()
    (source / "big").write_bytes(random.Random(1).randbytes(2 << 20))
    mounting = f'mount -t tmpfs -o {options} tmpfs {dest} && exec "$@"'
    under = ("unshare", "--mount", "--propagation", "private", "sh", "-c", mounting, "sh")
    reason = init(tmp_path, "copy", source, dest, under=under).failed(1)
    if options == "ro":
        assert "Read-only file system" in reason and "mount a volume there, without readOnly" in reason
    else:
        assert f"DEST {dest} has no room: " in reason and "give the volume a larger sizeLimit" in reason


@as_root
def test_a_volume_that_fills_up_meanwhile_leaves_no_manifest(tmp_path: Path, source: Path, dest: Path) -> None:
    """Two files of which each has room: the quota is that of inodes."""
    dest.mkdir()
    mounting = f'mount -t tmpfs -o nr_inodes=8 tmpfs {dest} && "$@"; code=$?; ls -A {dest} >{tmp_path}/left; exit $code'
    under = ("unshare", "--mount", "--propagation", "private", "sh", "-c", mounting, "sh")
    reason = init(tmp_path, "copy", source, dest, under=under).failed(1)
    assert "No space left on device" in reason and "give the volume a larger sizeLimit" in reason
    assert (tmp_path / "left").read_text().split() == [STAGING]


@as_root
def test_a_mount_point_is_filled_not_replaced(tmp_path: Path, source: Path, dest: Path) -> None:
    dest.mkdir()
    volumes = f"mount -t tmpfs tmpfs {dest} && mkdir {dest}/a && mount -t tmpfs tmpfs {dest}/a"
    mounting = f'{volumes} && "$@" && cp -a {dest} {tmp_path}/seen'
    under = ("unshare", "--mount", "--propagation", "private", "sh", "-c", mounting, "sh")
    init(tmp_path, "copy", source, dest, "--mirror", under=under).well()
    assert content(tmp_path / "seen") == content(source)


def test_a_single_file_goes_to_a_name_or_into_a_directory(tmp_path: Path, source: Path) -> None:
    def copy(to: str, *words: str) -> Done:
        return init(tmp_path, "copy", source / "script", f"{tmp_path}/{to}", *words).well()

    copy("x/y").said("copied")
    copy("x/y").said("unchanged")
    copy("z/").said("copied")
    copy("z", "--mode", "0600", "--verify").said("copied")
    (tmp_path / "z" / "script").unlink()
    (tmp_path / "z" / "script").symlink_to(source / "top")
    copy("z").said("copied")
    found = {path: entry for path, entry in content(tmp_path).items() if path[:2] in (b"x/", b"z/")}
    expected = content(source)[b"script"]
    assert found == {b"x/y": expected, b"z/script": expected}


@as_root
@pytest.mark.parametrize("dest", ["", "/srv/elsewhere"])
def test_an_image_with_a_payload_copies_it_by_itself(tmp_path: Path, dest: str) -> None:
    """In a root of its own: this machine's, with a payload over it."""
    new = tmp_path / "root"
    new.mkdir()
    (tmp_path / "script").write_text(PAYLOAD)
    under = ("unshare", "--mount", "--propagation", "private", "sh", "-eu", tmp_path / "script", tmp_path)
    done = init(tmp_path, under=under, env={"INIT_DEST": dest, "INIT_TERMINATION_LOG": "/dev/null"})
    if "overlay" in done.stderr:
        pytest.skip(f"NOT PROVEN HERE: this kernel has no overlay here: {done.stderr}")
    told = done.well().said("copied")
    assert (told["dest"], told["files"]) == (dest or "/models", 1)
    assert "setting ignored" not in done.stderr


PAYLOAD = """
cd "$1"; shift
mount -t tmpfs tmpfs root
mkdir root/upper root/work root/merged
mount -t overlay overlay -o lowerdir=/,upperdir=root/upper,workdir=root/work root/merged
mkdir root/merged/payload
touch root/merged/payload/model
mount --rbind /proc root/merged/proc
exec chroot root/merged "$@"
"""

WRONG = [
    (["copy"], 2, "copy needs SRC and DEST, and got 0 paths"),
    (["copy", "/nowhere", "/tmp/x"], 1, "SRC /nowhere does not exist; is it in the image"),
    (["copy", "/etc/ssl", "/dev/null/x"], 1, "(/dev/null); a file is where a directory is needed; remove it"),
]


@pytest.mark.parametrize(("words", "code", "reason"), WRONG)
def test_what_is_wrong_is_said_with_its_exit_code(tmp_path: Path, words: list[str], code: int, reason: str) -> None:
    assert reason in init(tmp_path, *words).failed(code)


def test_a_random_tree_comes_out_the_same(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(10**6)
    tree(tmp_path / "src", random.Random(seed), 60)
    init(tmp_path, "copy", tmp_path / "src", tmp_path / "dest").well()
    assert content(tmp_path / "dest") == content(tmp_path / "src"), seed
