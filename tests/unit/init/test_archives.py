"""Archives as they are, broken, and hostile: whatever is in one, nothing is made outside, and nothing half."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import stat
import struct
import subprocess
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecars.core.errors import SidecarError
from sidecars.init import tree
from sidecars.init.archives import Budget, Limits, Rules, check_link, safe, unpack
from sidecars.init.formats import opened
from sidecars.init.tree import Selection, Tree

WHEN = 1_700_000_000


def member(name: str, data: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.mtime = len(data), WHEN
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=kind, linkname=target)


def folder(name: str, mode: int = 0o755) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=tarfile.DIRTYPE, mode=mode)


def tar(*members: tuple[tarfile.TarInfo, bytes], kind: int = tarfile.PAX_FORMAT) -> bytes:
    made = io.BytesIO()
    with tarfile.TarFile(fileobj=made, mode="w", format=kind) as opened:
        for info, data in members:
            opened.addfile(info, io.BytesIO(data))
    return made.getvalue()


def zipped(*members: tuple[str, bytes, int]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, data, mode in members:
            info = zipfile.ZipInfo(name, (2023, 11, 14, 22, 13, 20))
            info.external_attr, info.create_system = mode << 16, 3
            info.compress_type = zipfile.ZIP_DEFLATED
            opened.writestr(info, data)
    return made.getvalue()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "around" / "root"
    made.mkdir(parents=True)
    return made


def unpacked(data: bytes, root: Path, rules: Rules = Rules(), name: str = "a.bin") -> Tree:  # noqa: B008
    file, budget = io.BytesIO(data), Budget(rules.limits, len(data))
    return unpack(opened(file, name, budget), str(root), rules, budget)


def refused(data: bytes, root: Path, words: str, rules: Rules = Rules()) -> None:  # noqa: B008
    with pytest.raises(SidecarError, match=words):
        unpacked(data, root, rules)
    assert os.listdir(root.parent) == ["root"]


def content(root: Path) -> dict[str, bytes | str | None]:
    found: dict[str, bytes | str | None] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        found[name] = os.readlink(path) if path.is_symlink() else None if path.is_dir() else path.read_bytes()
    return found


SITE = tar(
    folder("./site"), member("./site/index.html", b"<html>", mode=0o4755), member("site/empty"),
    member("site/css/a.css", b"a" * 10_000), link("site/latest", "css/a.css"), link("site/css/up", "../index.html"),
    link("site/same", "site/index.html", tarfile.LNKTYPE), folder("site/none", 0o500),
)  # fmt: skip
UNPACKED = {
    "site": None, "site/index.html": b"<html>", "site/empty": b"", "site/css": None, "site/css/a.css": b"a" * 10_000,
    "site/latest": "css/a.css", "site/css/up": "../index.html", "site/same": b"<html>", "site/none": None,
}  # fmt: skip
PACKED = {
    "tar": bytes, "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
}  # fmt: skip


@pytest.mark.parametrize("how", PACKED)
def test_a_tar_is_known_by_its_bytes_and_unpacked_as_it_is(root: Path, how: str) -> None:
    made = unpacked(PACKED[how](SITE), root, name="anything")
    assert content(root) == UNPACKED
    assert list(made) == list(tree.scan(str(root)))
    assert all(entry.same_content(made[path]) for path, entry in tree.scan(str(root)).items())
    assert made["site/index.html"].mode == 0o755  # and no setuid
    assert made["site/index.html"].mtime_ns == WHEN * 10**9
    assert made["site/none"].mode == 0o500
    assert os.stat(root / "site/same").st_ino == os.stat(root / "site/index.html").st_ino


@pytest.mark.parametrize("how", [kind for kind in PACKED if kind != "tar"])
def test_what_is_no_tar_is_one_file_under_its_name(root: Path, how: str) -> None:
    suffix = {"gzip": ".gz", "bzip2": ".bz2", "xz": ".xz", "zstd": ".zst"}[how]
    data = PACKED[how](b"a" * 3_000_000) + PACKED[how](b"b")
    unpacked(data, root, name=f"model.onnx{suffix}")
    assert content(root) == {"model.onnx": b"a" * 3_000_000 + b"b"}


@pytest.mark.parametrize("how", [kind for kind in PACKED if kind != "tar"])
@pytest.mark.parametrize("at", [20, -1, -9])
def test_half_a_stream_is_no_stream(root: Path, how: str, at: int) -> None:
    for inside in (SITE, os.urandom(300_000)):
        data = PACKED[how](inside)
        with pytest.raises(SidecarError, match=r"damaged|no archive"):
            unpacked(data[:at], root)
        for made in root.iterdir():
            subprocess.run(["rm", "-rf", made], check=True)


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tars_of_all_ages_are_read(root: Path, kind: int) -> None:
    long = "d" * 90 + "/" + "n" * 90
    unpacked(tar(member(long, b"x"), kind=kind), root)
    assert content(root)[long] == b"x"


def test_a_tar_cut_in_a_header_or_a_member_is_damaged(root: Path) -> None:
    two = tar(member("a", b"a" * 1000), member("b", b"b" * 1000))
    for at in (700, 1700, 2000, 2600):
        refused(two[:at], root, "damaged")
        for path in root.iterdir():
            path.unlink()
    broken = bytearray(two)
    broken[1536 + 150] ^= 1
    refused(bytes(broken), root, "no sound tar")


def test_a_zip_is_unpacked_with_modes_and_links(root: Path) -> None:
    data = zipped(
        ("a/", b"", stat.S_IFDIR | 0o750), ("a/run", b"#!", stat.S_IFREG | 0o4711),
        ("a/l", b"run", stat.S_IFLNK | 0o777),
        ("b/c", b"x" * 100_000, 0),
    )  # fmt: skip
    made = unpacked(data, root)
    assert content(root) == {"a": None, "a/run": b"#!", "a/l": "run", "b": None, "b/c": b"x" * 100_000}
    assert (made["a"].mode, made["a/run"].mode, made["b/c"].mode) == (0o750, 0o711, 0o600)
    assert unpacked(zipped(), root / "a") == {}


ESCAPES = {
    "up": [member("../evil", b"x")],
    "up later": [member("a/../../evil", b"x")],
    "absolute": [member("/tmp/evil", b"x")],
    "through a link": [link("a", ".."), member("a/evil", b"x")],
    "through a link inside": [folder("b"), link("a", "b"), member("a/evil", b"x")],
    "link up": [link("a", "..")],
    "link absolute": [link("a", "/etc/passwd")],
    "link through a link": [folder("d"), link("d/x", ".."), link("d/y", "x/../..")],
    "link to nothing": [link("a", "")],
    "hard link up": [link("a", "../../x", tarfile.LNKTYPE)],
    "hard link to a link": [link("a", "b"), link("c", "a", tarfile.LNKTYPE)],
    "hard link absolute": [link("a", "/etc/passwd", tarfile.LNKTYPE)],
    "hard link to what comes later": [link("a", "b", tarfile.LNKTYPE), member("b", b"x")],
    "FIFO": [member("a", type=tarfile.FIFOTYPE)],
    "device": [member("a", type=tarfile.CHRTYPE)],
    "block device": [member("a", type=tarfile.BLKTYPE)],
    "below a file": [member("a", b"x"), member("a/b", b"x")],
    "file over directory": [folder("a"), member("a", b"x")],
    "directory over file": [member("a", b"x"), folder("a")],
    "our manifest": [member(".pod-init.json", b"{}")],
    "our staging": [member("./.pod-init/part", b"x")],
    "deep": [member("/".join("d" * 200), b"x")],
}


@pytest.mark.parametrize("kind", ESCAPES)
def test_what_could_do_harm_is_refused_or_left_out(root: Path, kind: str) -> None:
    data = tar(member("good", b"1"), *ESCAPES[kind], member("too", b"2"))
    refused(data, root, "--unsafe skip")
    for path in root.iterdir():
        subprocess.run(["rm", "-rf", path], check=True)
    unpacked(data, root, Rules(skip=True))
    found = content(root)
    assert (found["good"], found["too"]) == (b"1", b"2")
    assert os.listdir(root.parent) == ["root"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (zipped(("../evil", b"x", 0)), "leads out"),
        (zipped(("/evil", b"x", 0)), "absolute"),
        (zipped(("a", b"../..", stat.S_IFLNK), ("a/evil", b"x", 0)), "out of the directory"),
        (zipped(("a", b"x" * 5000, stat.S_IFLNK)), "longer than any"),
        (zipped(("a", b"", stat.S_IFIFO)), "FIFO"),
        (zipped(("a", b"x", 0))[:-30], "no sound zip"),
        (b"PK\x03\x04" + b"\0" * 100, "no sound zip"),
        (zipped(("a", b"x" * 1000, 0)).replace(zipped(("a", b"x" * 1000, 0))[32:36], b"1234"), "cannot be unpacked"),
        (b"<html>Not found</html>", "an HTML page"),
        (b"", "no archive"),
        (b"\x7fELF" + b"\0" * 600, "no archive"),
    ],
)  # fmt: skip
def test_what_is_no_sound_archive_says_so(root: Path, data: bytes, words: str) -> None:
    refused(data, root, words)


def test_an_encrypted_zip_says_so(root: Path) -> None:
    data = bytearray(zipped(("a", b"x", 0)))
    for magic, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(magic) + at] |= 1
    refused(bytes(data), root, "is encrypted")


def test_the_last_of_a_name_counts_and_does_not_write_through_the_first(root: Path) -> None:
    (root.parent / "outside").write_bytes(b"safe")
    unpacked(tar(member("a", b"1"), link("b", "a"), member("b", b"2"), member("a", b"3")), root)
    assert content(root) == {"a": b"3", "b": b"2"}
    assert (root.parent / "outside").read_bytes() == b"safe"


HOSTILE = ["new\nline", "tab\t", "\x1b[31m", "-rf", " ", "…", "a\\b", "CON", "n" * 255, "\udcff\udcfe"]


@pytest.mark.parametrize("name", HOSTILE)
def test_strange_names_are_kept(root: Path, name: str) -> None:
    made = unpacked(tar(member(name, b"x"), kind=tarfile.GNU_FORMAT), root)
    assert list(made) == [name]
    assert os.listdir(root) == [name]


def test_a_name_that_no_file_can_have_is_an_error(root: Path) -> None:
    refused(tar(member("a", b"x", pax_headers={"path": "a\0b"})), root, "no file can have")
    with pytest.raises(OSError, match="too long"):
        unpacked(tar(member("n" * 300, b"x")), root)


def test_components_are_stripped_and_patterns_heeded(root: Path) -> None:
    data = tar(
        folder("v1"), member("v1/a.txt", b"1"), member("v1/b.log", b"2"), folder("v1/c"), member("v1/c/d.txt", b"3"),
        folder("v1/e"), member("top", b"4"), link("v1/h", "v1/a.txt", tarfile.LNKTYPE),
    )  # fmt: skip
    unpacked(data, root, Rules(strip=1, selection=Selection((), ("*.log", "e"))))
    assert content(root) == {"a.txt": b"1", "c": None, "c/d.txt": b"3", "h": b"1"}
    (root / "x").mkdir()
    unpacked(data, root / "x", Rules(selection=Selection(("*.txt",), ("v1/c",))))
    assert content(root / "x") == {"v1": None, "v1/a.txt": b"1"}


def test_modes_can_be_given(root: Path) -> None:
    made = unpacked(SITE, root, Rules(mode=0o640, dir_mode=0o750))
    modes = {(entry.kind, entry.mode) for entry in made.values()}
    assert modes == {("file", 0o640), ("dir", 0o750), ("link", 0)}
    assert stat.S_IMODE(os.stat(root / "site/index.html").st_mode) == 0o640


# Bombs


def bomb(how: str, size: int) -> bytes:
    if how == "zip":
        return zipped(("zeros", bytes(size), 0))
    if how == "alone":
        return gzip.compress(bytes(size))
    return PACKED[how](tar(member("zeros", bytes(size))))


@pytest.mark.parametrize("how", ["gzip", "bzip2", "xz", "zstd", "zip", "alone"])
def test_a_bomb_is_known_by_its_ratio_and_by_its_size(root: Path, how: str) -> None:
    data = bomb(how, 70 << 20)
    refused(data, root, "--max-ratio 200 times")
    subprocess.run(["rm", "-rf", root / "zeros", root / "a.bin"], check=True)
    refused(data, root, "more than --max-extracted 1,000,000", Rules(Limits(size=1_000_000)))
    assert sum(path.stat().st_size for path in root.iterdir()) <= 1_000_000 + (1 << 20)


def test_too_many_members_are_too_many(root: Path) -> None:
    refused(tar(*(member(str(n)) for n in range(11))), root, "more than --max-files 10 ", Rules(Limits(files=10)))


def test_a_header_that_would_fill_the_memory_is_refused(root: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 1 << 33
    refused(info.tobuf(tarfile.GNU_FORMAT) + bytes(10_000), root, "header of more than 64 MiB")
    refused(zipped(("a", b"", 0))[:-10] + struct.pack("<LLH", 1 << 31, 0, 0), root, r"no sound zip|directory")


def sparse(size: int) -> bytes:
    """A sparse file with three bytes at its end, as GNU tar writes it."""
    with contextlib.ExitStack() as stack:
        import tempfile

        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        with open(place / "sparse", "wb") as file:
            file.seek(size - 3)
            file.write(b"end")
        return subprocess.run(["tar", "-cSf", "-", "-C", place, "sparse"], stdout=subprocess.PIPE, check=True).stdout


def test_a_sparse_file_stays_one_and_counts_by_its_size(root: Path) -> None:
    data = sparse(200 << 20)
    assert len(data) < 100_000
    unpacked(data, root)
    status = os.stat(root / "sparse")
    assert status.st_size == 200 << 20
    assert status.st_blocks * 512 <= 2 << 20
    with open(root / "sparse", "rb") as file:
        file.seek(-3, os.SEEK_END)
        assert file.read() == b"end"
    (root / "sparse").unlink()
    refused(data, root, "--max-extracted", Rules(Limits(size=100 << 20)))


# Names


@pytest.mark.parametrize(
    ("name", "parts"),
    [("a", ["a"]), ("./a//b/", ["a", "b"]), (".", []), ("", []), ("a/./b", ["a", "b"]), ("...", ["..."])],
)
def test_a_safe_name_is_split(name: str, parts: list[str]) -> None:
    assert safe(name) == parts


@pytest.mark.parametrize(("path", "target"), [("a", "b"), ("a/b", "../c"), ("a/b/c", "../../d/e"), ("a/b", "./c/.")])
def test_a_link_may_lead_to_what_is_inside(path: str, target: str) -> None:
    check_link(path, target)


PART = st.sampled_from(["a", "b", "..", ".", "", "/", "a/b", "../..", "\0", "x" * 300]) | st.text(max_size=3)
NAME = st.lists(PART, max_size=4).map("/".join)
KIND = st.sampled_from([
    tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, b"9",
])  # fmt: skip
MEMBERS = st.lists(st.tuples(NAME, KIND, NAME, st.integers(0, 0o7777)), max_size=8)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(MEMBERS)
def test_whatever_a_tar_says_nothing_gets_out(tmp_path: Path, members: list[tuple[str, bytes, str, int]]) -> None:
    around = Path(os.path.realpath(tempfile.mkdtemp(dir=tmp_path)))
    root = around / "root"
    root.mkdir()
    (around / "a").write_bytes(b"outside")
    infos = []
    for name, kind, target, mode in members:
        data = b"data" if kind == tarfile.REGTYPE else b""
        infos.append(member(name, data, type=kind, linkname=target, mode=mode))
    with contextlib.suppress(UnicodeError, ValueError, SidecarError, OSError):
        made = unpacked(tar(*infos), root, Rules(skip=True))
        assert {str(path.relative_to(root)) for path in root.rglob("*")} == set(made)
    assert set(os.listdir(around)) == {"root", "a"}
    assert (around / "a").read_bytes() == b"outside"
    for path in root.rglob("*"):
        assert os.path.realpath(path).startswith(f"{root}")
        mode = path.lstat().st_mode
        assert stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)
        assert not mode & 0o7000


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    st.sampled_from([SITE, *(pack(SITE) for pack in list(PACKED.values())[1:]), zipped(("a/b", b"x" * 999, 0o100644))]),
    st.lists(st.tuples(st.integers(0, 20_000), st.integers(1, 255)), min_size=1, max_size=5),
)
def test_whatever_is_broken_is_an_error_of_ours(tmp_path: Path, data: bytes, flips: list[tuple[int, int]]) -> None:
    around = Path(tempfile.mkdtemp(dir=tmp_path))
    root = around / "root"
    root.mkdir()
    broken = bytearray(data)
    for at, bits in flips:
        broken[at % len(broken)] ^= bits
    with contextlib.suppress(SidecarError):
        try:
            unpacked(bytes(broken), root)
        except OSError as error:
            assert error.errno
    assert os.listdir(around) == ["root"]
