"""Collect the root file systems that images are made of; runs in the build stage of images/Dockerfile.

    root.py interpreter ROOT CERTIFICATES    Python, its library and what they link to: the layer all images share
    root.py packages ROOT COMMAND[,COMMAND] REQUIREMENT...
                                             what pip installs, with no other commands, and what it links to beyond
                                             that; the requirement `sidecars[x]` is the wheel of these sources
    root.py programs FOLDER KIT...           Debian's programs of each kit, in FOLDER/KIT, and what they link to beyond
                                             the interpreter and the kits before

A root is made to be the same bytes whenever it is made from the same sources: one date, sorted bytecode, no build logs.
"""

import compileall
import contextlib
import fnmatch
import glob
import os
import py_compile
import re
import shutil
import stat
import struct
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence

LIBRARY = sysconfig.get_path("stdlib")
PACKAGES = sysconfig.get_path("purelib")
SCRIPTS = sysconfig.get_path("scripts")
NAME = os.path.basename(LIBRARY)

# The parts of the standard library that no service needs: tests, editors, terminals, installers, old databases; East
# Asian codecs; and what stands in for modules that are here in C.
LEFT_OUT = """
    __pycache__ test idlelib tkinter turtledemo turtle.py ensurepip lib2to3 pydoc_data pydoc.py _pyrepl config-* venv
    site-packages distutils unittest doctest.py curses dbm __phello__ antigravity.py this.py mailbox.py
    _pydecimal.py _pyio.py _test*.so _ctypes_test*.so xx*.so _tkinter*.so _curses*.so readline*.so _dbm*.so
    _gdbm*.so nis.*.so ossaudiodev*.so _codecs_*.so
""".split()  # noqa: SIM905  # one word a line would be a page

# Of the packages: tests and what helps to write them, type stubs, sources of extensions, examples, pip's notes on the
# build; the C half of PyYAML, 2.6 MB for nothing; and zstandard's second binding, for PyPy.
LEFT_OUT_OF_PACKAGES = """
    __pycache__ tests test_utils.py pytest_plugin.py _testcapi.*.so examples examples-1.json *.pyi *.pyx *.pxd *.pxi *.h
    direct_url.json REQUESTED _yaml.*.so _cffi.*.so backend_cffi.py
""".split()  # noqa: SIM905

# Folders that hold something for each service of Amazon's, and the services to keep: S3, and those that boto3 gets
# credentials from. Files beside them stay. Of moto it is the S3 of a test server, and what that imports.
KEPT = {
    "botocore/data": "s3 sts sso sso-oidc signin".split(),  # noqa: SIM905
    "boto3/data": [],
    "moto": "cloudwatch core events iam kms moto_api moto_server s3 s3bucket_path sts utilities".split(),  # noqa: SIM905
}

# What a package looks for beside its own files, by package: names of time zones, for keys and times in local time.
BESIDE = {"sidecars/shipper": "/usr/share/zoneinfo", "sidecars/adapter": "/usr/share/zoneinfo"}

# Parts, and the library without which nothing could import them: who has not got it has no use for them.
NEEDED = {
    "sidecars/core/forward": "fluent",
    "sidecars/core/follow": "watchdog",
    "sidecars/ambassador/http/bearing.py": "jwt",
    "sidecars/ambassador/http/jwt.py": "jwt",
    "sidecars/ambassador/http/jwks.py": "jwt",
    "sidecars/ambassador/http/credentials/sigv4.py": "botocore",
}

# Programs of Debian by the word for what they do, each as its path, or as `package:NAME` for all of a package's.
KITS = {
    # What keeps a repository that is reached by HTTP: ssh-keygen verifies signatures, openssl signs for a GitHub App.
    "git": "/usr/bin/git /usr/bin/ssh-keygen /usr/bin/openssl".split(),  # noqa: SIM905
    "ssh": ["/usr/bin/ssh"],
    # What hooks are written with, and what git starts through a shell: gpgv.
    "shell": """
        /usr/bin/bash package:coreutils package:grep package:sed package:tar package:gzip /usr/bin/curl /usr/bin/socat
        /usr/bin/gpgv
    """.split(),  # noqa: SIM905
    "server": ["/usr/lib/git-core/git-http-backend"],
    "redis": ["/usr/bin/redis-server", "/usr/bin/redis-cli"],
    "nginx": ["/usr/sbin/nginx", "/etc/nginx/mime.types"],
}

# Of git's own folder: what git-syncer's git may call. What links to one of these stays too. The rest is for people, in
# Perl and Python, for mail, or for servers.
GIT_CORE, GIT_TEMPLATES = "/usr/lib/git-core", "/usr/share/git-core/templates"
GIT_PARTS = "git git-remote-http git-submodule git-sh-setup git-sh-i18n git-sh-i18n--envsubst".split()  # noqa: SIM905

TMP, STICKY = "/tmp", 0o1777  # noqa: S108

# As in images of distroless: an image with no package manager says so in a file per package.
STATUS = "/var/lib/dpkg/status.d"

# glibc opens it by name when a thread ends; nothing links to it.
OPENED_BY_NAME = ("libgcc_s.so.1",)

FILES = {
    "/etc/passwd": "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/tmp:/sbin/nologin\n",
    "/etc/group": "root:x:0:\nnonroot:x:65532:\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nservices: files\n",
}
COPIED = ("/etc/os-release", "/etc/services", "/etc/ssl/openssl.cnf", "/etc/ld.so.conf")


def interpreter(root: str, certificates: str) -> None:
    """Fill `root` with a file system in which Python runs, and nothing else does."""
    shutil.copytree(LIBRARY, root + LIBRARY, symlinks=True, ignore=shutil.ignore_patterns(*LEFT_OUT))
    os.makedirs(root + PACKAGES)
    place(os.path.realpath(sys.executable), root)
    for link in ("python3", "python"):
        os.symlink(NAME, f"{root}{SCRIPTS}/{link}")
    for link in ("/lib", "/lib64"):
        if os.path.islink(link):
            os.symlink(os.readlink(link), root + link)
    for library in interpreter_libraries():
        place(library, root)
    etc(root, certificates)
    os.makedirs(root + TMP)
    os.chmod(root + TMP, STICKY)
    subprocess.run(["ldconfig", "-r", root], check=True)
    # The cache of ldconfig itself: useless without it, and not the same bytes twice.
    shutil.rmtree(f"{root}/var", ignore_errors=True)
    finish(root)


def packages(root: str, commands: Sequence[str], *requirements: str) -> None:
    """Fill `root` with what pip installs beside the interpreter; the commands are the only programs of it."""
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-compile",
        "--no-warn-script-location",
        "--root",
        root,
    ]
    subprocess.run([*pip, *map(of_these_sources, requirements)], check=True)
    prune_packages(root, commands)
    for command in commands:
        isolate(f"{root}{SCRIPTS}/{command}")
    for package, folder in BESIDE.items():
        if os.path.exists(f"{root}{PACKAGES}/{package}"):
            shutil.copytree(folder, root + folder, symlinks=True, ignore=shutil.ignore_patterns("posix", "right"))
    for library in set(linked(root + PACKAGES)) - set(interpreter_libraries()):
        place(library, root)
    finish(root)


def programs(folder: str, *kits: str) -> None:
    """Fill a root per kit with programs that Debian's packages have installed here, and the libraries they link to."""
    there = set(interpreter_libraries())
    for kit in kits:
        root = f"{folder}/{kit}"
        wanted = [path for name in KITS[kit] for path in installed(name)]
        for path in wanted:
            place(path, root)
        if kit == "git":
            wanted += git_core(root)
        if kit == "shell":
            os.symlink("bash", f"{root}/usr/bin/sh")
        libraries = set(closure(filter(is_elf, wanted))) - there
        for library in libraries:
            place(library, root)
        if os.path.islink("/bin"):
            os.symlink(os.readlink("/bin"), f"{root}/bin")
        there |= libraries
        finish(root)


def installed(name: str) -> list[str]:
    """Give the path that a name of KITS stands for, or the programs of the package that it stands for."""
    package = name.removeprefix("package:")
    if package == name:
        return [name]
    listing = subprocess.run(["dpkg", "--listfiles", package], check=True, stdout=subprocess.PIPE, text=True).stdout
    return [path for path in listing.splitlines() if re.fullmatch(r"(/usr)?/s?bin/[^/]+", path)]


def git_core(root: str) -> list[str]:
    """Copy the parts of git's folder that are kept, links as links; give the paths of those that are none."""
    os.makedirs(root + GIT_CORE, exist_ok=True)
    for path in glob.glob(f"{GIT_CORE}/*"):
        if os.path.islink(path) and os.path.basename(os.path.realpath(path)) in GIT_PARTS:
            shutil.copyfile(path, root + path, follow_symlinks=False)
    parts = [f"{GIT_CORE}/{name}" for name in GIT_PARTS if name != "git"]
    for path in parts:
        place(path, root)
    # Debian has git twice. Without samples of hooks, which nobody who fetches runs, a new repository is made sooner.
    link = f"{root}{GIT_CORE}/git"
    if not os.path.lexists(link):
        os.symlink("../../bin/git", link)
    shutil.copytree(GIT_TEMPLATES, root + GIT_TEMPLATES, ignore=shutil.ignore_patterns("hooks"))
    return parts


def is_elf(path: str) -> bool:
    """Say whether a file is a program that the loader reads, and no script."""
    with open(path, "rb") as file:
        return file.read(4) == b"\x7fELF"


def of_these_sources(requirement: str) -> str:
    """Have pip take `sidecars[x]` from the wheel that was built: an index may hold another project of that name."""
    [wheel] = glob.glob("/wheel/*.whl")
    return f"{requirement} @ file://{wheel}" if re.match(r"sidecars\b", requirement) else requirement


def prune_packages(root: str, commands: Sequence[str]) -> None:
    """Remove what an image of these commands never runs: the others, their sidecars and build-time files."""
    runs = []
    for name in os.listdir(root + SCRIPTS):
        if name not in commands:
            os.remove(f"{root}{SCRIPTS}/{name}")
            continue
        runs += imports(f"{root}{SCRIPTS}/{name}")
    # `sidecars` is of pods, which hands `sidecars demo` on.
    runs += [name for run in runs for name in imports(f"{root}{PACKAGES}/sidecars/{run}/__main__.py")]
    for folder, kept in {"sidecars": ["core", *runs], **KEPT}.items():
        prune_folder(f"{root}{PACKAGES}/{folder}", kept)
    for part, library in NEEDED.items():
        prune_part(f"{root}{PACKAGES}/{part}", f"{root}{PACKAGES}/{library}")
    for path in walk(root + PACKAGES):
        if left_out(path, LEFT_OUT_OF_PACKAGES):
            shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)
        elif fnmatch.fnmatch(path, "*.so*"):
            strip(path)


def imports(program: str) -> list[str]:
    """Give the parts of this project that a program names."""
    with open(program) as file:
        return re.findall(r"from sidecars\.(\w+)", file.read())


def prune_folder(folder: str, kept: list[str]) -> None:
    """Remove the folders in a folder, if it is there at all, except those that are kept."""
    for entry in os.scandir(folder) if os.path.isdir(folder) else ():
        if entry.is_dir() and entry.name not in kept:
            shutil.rmtree(entry)


def prune_part(part: str, library: str) -> None:
    """Remove a folder or a module, if it is there, whose library is not."""
    if os.path.exists(part) and not os.path.exists(library):
        shutil.rmtree(part) if os.path.isdir(part) else os.remove(part)


def strip(path: str) -> None:
    """Cut a library off after the last byte that is loaded: zstandard's has 10 MB for debuggers behind it.

    What is loaded is in the program headers. The table of sections, for tools alone, goes with what it describes. The
    slim images have no `strip`. Source: elf(5), 64-bit.
    """
    with open(path, "r+b") as file:
        header = bytearray(file.read(64))
        if header[:6] != b"\x7fELF\x02\x01":
            return
        (table,) = struct.unpack_from("<Q", header, 32)
        size, count = struct.unpack_from("<HH", header, 54)
        file.seek(table)
        segments = [file.read(size) for _ in range(count)]
        file.truncate(max(sum(struct.unpack_from("<Q16xQ", segment, 8)) for segment in segments))
        struct.pack_into("<Q", header, 40, 0)
        struct.pack_into("<HHH", header, 58, 0, 0, 0)
        file.seek(0)
        file.write(header)


def isolate(script: str) -> None:
    """Let no variable, home or current folder add code to the program (Python's -I), nor bytecode be written (-B)."""
    with open(script) as file:
        shebang, _, program = file.read().partition("\n")
    with open(script, "w") as file:
        file.write(f"{shebang} -IB\n{program}")


def etc(root: str, certificates: str) -> None:
    """Write what libc, OpenSSL and the scanners of images look for in /etc."""
    for path in (*COPIED, *glob.glob("/etc/ld.so.conf.d/*")):
        place(path, root)
    for path, text in FILES.items():
        with open(root + path, "w") as file:
            file.write(text)
    bundle = f"{root}/etc/ssl/certs/ca-certificates.crt"
    os.makedirs(os.path.dirname(bundle))
    shutil.copyfile(certificates, bundle)
    # OpenSSL's compiled-in folder on Debian, with its two compiled-in names.
    os.makedirs(f"{root}/usr/lib/ssl")
    os.symlink("/etc/ssl/certs/ca-certificates.crt", f"{root}/usr/lib/ssl/cert.pem")
    os.symlink("/etc/ssl/certs", f"{root}/usr/lib/ssl/certs")
    os.symlink("/etc/ssl/openssl.cnf", f"{root}/usr/lib/ssl/openssl.cnf")


def place(path: str, root: str) -> None:
    """Copy one file to its own place below `root`, where no folder is reached through a link."""
    target = os.path.join(root, os.path.realpath(os.path.dirname(path)).lstrip("/"), os.path.basename(path))
    os.makedirs(os.path.dirname(target), exist_ok=True)
    shutil.copy(path, target)


def interpreter_libraries() -> list[str]:
    """Give the shared libraries that Python and the kept part of its library link to."""
    kept = [path for path in glob.glob(f"{LIBRARY}/lib-dynload/*.so") if not left_out(path, LEFT_OUT)]
    found = set(closure([os.path.realpath(sys.executable), *kept]))
    folders = {os.path.dirname(path) for path in found}
    found |= {path for name in OPENED_BY_NAME for folder in folders if os.path.exists(path := f"{folder}/{name}")}
    return sorted(found)


def linked(folder: str) -> list[str]:
    """Give the shared libraries that the modules below a folder link to, without those that lie there themselves."""
    modules = [path for path in walk(folder) if fnmatch.fnmatch(path, "*.so*") and os.path.isfile(path)]
    return sorted(path for path in closure(modules) if not path.startswith(folder)) if modules else []


def closure(binaries: Iterable[str]) -> Iterator[str]:
    """Ask the dynamic loader for the path of every library that would be loaded.

        libssl.so.3 => /lib/x86_64-linux-gnu/libssl.so.3 (0x00007f)
        /lib64/ld-linux-x86-64.so.2 (0x00007f)

    A library that is not found ends the build: the image would fail at run time.
    """
    listing = subprocess.run(["ldd", *binaries], check=True, stdout=subprocess.PIPE, text=True).stdout
    for line in listing.splitlines():
        if "not found" in line:
            sys.exit(f"a module links to a library that this base does not have: {line.strip()}; add it to the base")
        words = line.split()
        with contextlib.suppress(StopIteration):
            yield next(word for word in words if word.startswith("/") and not word.endswith(":"))


def left_out(path: str, patterns: Iterable[str]) -> bool:
    """Say whether a file's or folder's own name is among the patterns."""
    return any(fnmatch.fnmatch(os.path.basename(path), pattern) for pattern in patterns)


def walk(folder: str) -> Iterator[str]:
    """Give every path below a folder, the deepest first."""
    for parent, folders, files in os.walk(folder, topdown=False):
        for name in sorted([*folders, *files]):
            yield os.path.join(parent, name)


def compile_library(root: str) -> None:
    """Write the bytecode of every module below a root."""
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    if not compileall.compile_dir(root + LIBRARY, maxlevels=100, stripdir=root, quiet=1, invalidation_mode=unchecked):
        sys.exit(f"some modules below {root} do not compile; their names are above")


def record(root: str) -> None:
    """Write down which of Debian's packages the files of a root are of, where scanners of images look for that.

        /var/lib/dpkg/status.d/libssl3: Package: libssl3, Version: 3.0.17-1, ...

    Debian may know a file by its path before or after the merge of /lib into /usr. What is below /usr/local is not its,
    and links were made here.
    """
    paths = [path.removeprefix(root) for path in walk(root) if os.path.isfile(path) and not os.path.islink(path)]
    paths = [path for path in paths if not path.startswith("/usr/local/")]
    asked = {*paths, *(path.removeprefix("/usr") for path in paths), *(f"/usr{path}" for path in paths)}
    for name in packages_of(sorted(asked)):
        status = subprocess.run(["dpkg-query", "--status", name], check=True, stdout=subprocess.PIPE, text=True).stdout
        os.makedirs(root + STATUS, exist_ok=True)
        with open(f"{root}{STATUS}/{name.partition(':')[0]}", "w") as file:
            file.write(status)


def packages_of(paths: Sequence[str]) -> list[str]:
    """Ask for the packages that have installed any of these files.

    libssl3:amd64: /usr/lib/x86_64-linux-gnu/libssl.so.3
    diversion by dash from: /bin/sh
    """
    if not paths:
        return []
    # Exit code 1 says that some of them are no package's.
    done = subprocess.run(
        ["dpkg-query", "--search", *paths], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    owned = [line.rpartition(": ")[0] for line in done.stdout.splitlines() if not line.startswith("diversion by ")]
    return sorted({name for names in owned for name in names.split(", ")})


def finish(root: str) -> None:
    """Record, compile, and make modes and dates those of every other build.

    The bytecode is never checked against its source: the root is read-only, and without bytecode each start
    compiles anew, which takes four to seven times as long.
    """
    record(root)
    if os.path.isdir(root + LIBRARY):
        compile_library(root)
    date = int(os.environ["SOURCE_DATE_EPOCH"])
    for path in walk(root):
        mode = stat.S_IMODE(os.lstat(path).st_mode)
        if not os.path.islink(path) and mode != STICKY:
            os.chmod(path, 0o755 if mode & 0o111 else 0o644)
        os.utime(path, (date, date), follow_symlinks=False)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["interpreter", root, certificates]:
            interpreter(root, certificates)
        case ["packages", root, command, *requirements]:
            packages(root, command.split(","), *requirements)
        case ["programs", folder, *kits]:
            programs(folder, *kits)
        case _:
            sys.exit(__doc__)
