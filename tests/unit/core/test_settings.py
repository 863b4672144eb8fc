"""One declaration read from flags, variables and the config file, with the errors an operator gets."""

# ruff: noqa: E501  (a message stands whole, as its reader sees it)

from __future__ import annotations

import importlib.util
import os
import pkgutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest

import sidecars
from sidecars import __version__
from sidecars.core.declaration import declared
from sidecars.core.errors import WrongSettings
from sidecars.core.settings import Address, Admin, Bytes, Common, Help, Part, Seconds, Secret, load, shown


class Upstream(Part, frozen=True):
    """One upstream."""

    address: Annotated[Address, Help("Where it listens.")]
    from_: Annotated[Literal["start", "end"], Help("Where to begin.")] = "start"
    weight: Annotated[int, Help("Its share.")] = 1
    key: Annotated[Secret | None, Help("Its key.", none="")] = None


class Settings(Common, frozen=True, kw_only=True):
    """Relay connections."""

    upstream: Annotated[Address, Help("Where to relay to.")]
    paths: Annotated[tuple[str, ...], Help("Files.", metavar="PATH", positional=True)] = ()
    from_: Annotated[Literal["start", "end"], Help("Where to begin.")] = "start"
    chunk_age: Annotated[Seconds, Help("When to end a chunk.")] = Seconds(60)
    chunk_size: Annotated[Bytes | None, Help("When to end a chunk.")] = None
    tag: Annotated[list[str], Help("A tag.")] = msgspec.field(default_factory=list)
    ports: Annotated[tuple[int, ...], Help("Some ports.")] = ()
    ratio: Annotated[float, Help("A ratio.")] = 0.5
    verify: Annotated[bool, Help("Verify.")] = True
    secret_key: Annotated[Secret | None, Help("The key.")] = None
    url: Annotated[str, Help("A URL.")] = ""
    upstreams: Annotated[tuple[Upstream, ...], Help("Several upstreams.")] = ()
    admin: Admin = Address(":9105")


def given(*argv: str, passwords: bool = False, **environ: str) -> Settings:
    """Load the settings, with the one that is required given unless an argument names it."""
    required = () if "--upstream" in "".join(argv) or "APP_UPSTREAM" in environ else ("--upstream", "db:5432")
    return load(Settings, prog="app", prefix="APP_", argv=[*required, *argv], environ=environ, passwords=passwords)


def refused(*argv: str, **environ: str) -> str:
    with pytest.raises(WrongSettings) as error:
        given(*argv, **environ)
    return str(error.value)


def config(folder: Path, text: str, name: str = "app.yaml") -> str:
    (folder / name).write_text(text)
    return f"--config={folder / name}"


@pytest.mark.parametrize(
    ("argv", "environ", "name", "value"),
    [
        ([], {}, "chunk_age", 60.0),
        (["--chunk-age", "5m"], {}, "chunk_age", 300.0),
        (["--chunk-age=5m"], {}, "chunk_age", 300.0),
        (["--chunk-age=5m", "--chunk-age", "1h"], {}, "chunk_age", 3600.0),
        ([], {"APP_CHUNK_AGE": "90"}, "chunk_age", 90.0),
        ([], {"APP_CHUNK_AGE": "90\n"}, "chunk_age", 90.0),
        ([], {"APP_CHUNK_AGE": ""}, "chunk_age", 60.0),
        (["--chunk-age", "1s"], {"APP_CHUNK_AGE": "2s"}, "chunk_age", 1.0),
        ([], {}, "chunk_size", None),
        (["--chunk-size", "64KiB"], {}, "chunk_size", 65536),
        (["--chunk-size", "off"], {"APP_CHUNK_SIZE": "1MB"}, "chunk_size", None),
        (["--from", "end"], {}, "from_", "end"),
        ([], {"APP_FROM": "end"}, "from_", "end"),
        (["--no-verify"], {}, "verify", False),
        (["--verify=false"], {"APP_VERIFY": "true"}, "verify", False),
        (["--no-verify", "--verify"], {}, "verify", True),
        ([], {"APP_VERIFY": "No"}, "verify", False),
        ([], {"APP_VERIFY": "0"}, "verify", False),
        (["--tag", "a,b", "--tag=c"], {}, "tag", ["a,b", "c"]),
        ([], {"APP_TAG": "a, b\nc\n"}, "tag", ["a", "b", "c"]),
        ([], {"APP_TAG": '["a,b", "c"]'}, "tag", ["a,b", "c"]),
        (["--tag", "x"], {"APP_TAG": "a,b"}, "tag", ["x"]),
        ([], {"APP_PORTS": "[1, 2]"}, "ports", (1, 2)),
        ([], {"APP_PORTS": "1,2"}, "ports", (1, 2)),
        (["--ratio", "1e-3"], {}, "ratio", 0.001),
        (["a", "--tag", "t", "b", "-"], {}, "paths", ("a", "b", "-")),
        (["--", "--tag", "-x"], {}, "paths", ("--tag", "-x")),
        ([], {"APP_PATHS": "/a,/b"}, "paths", ("/a", "/b")),
        (["--admin", "off"], {}, "admin", None),
        ([], {}, "admin", ":9105"),
        (["--state-dir", "off"], {}, "state_dir", "off"),
        ([], {"POD_NAME": "web-0"}, "pod_name", "web-0"),
        ([], {"APP_POD_NAME": "web-0"}, "pod_name", None),
        ([], {"APP_SECRET_KEY": "hunter2"}, "url", ""),
    ],
)
def test_a_setting_comes_from_the_first_source_that_has_it(
    argv: list[str], environ: Mapping[str, str], name: str, value: object
) -> None:
    assert getattr(given(*argv, **environ), name) == value


def test_a_flag_wins_over_a_variable_over_the_file_over_the_default(tmp_path: Path) -> None:
    file = config(tmp_path, "chunk_age: 1s")
    assert given(file).chunk_age == 1
    assert given(file, APP_CHUNK_AGE="2s").chunk_age == 2
    assert given(file, "--chunk-age=3s", APP_CHUNK_AGE="2s").chunk_age == 3


def test_the_config_file_is_named_by_a_variable_too(tmp_path: Path) -> None:
    config(tmp_path, "chunk_age: 1s")
    assert given(APP_CONFIG=str(tmp_path / "app.yaml")).chunk_age == 1


def test_settings_read_in_turn_do_not_share_anything() -> None:
    given("--tag", "a").tag.append("b")
    assert given().tag == []


@pytest.mark.parametrize(
    ("argv", "environ", "message"),
    [
        (["--chunk-age", "soon"], {}, "--chunk-age is 'soon', expected seconds, or 90s, 5m, 1h"),
        ([], {"APP_CHUNK_AGE": "soon"}, "APP_CHUNK_AGE is 'soon', expected seconds, or 90s, 5m, 1h"),
        (["--chunk-size=x"], {}, "--chunk-size is 'x', expected bytes, or 64KiB, 10MB, 1GiB, or off"),
        (["--from", "begin"], {}, "--from is 'begin', expected start or end"),
        (["--admin", "9101"], {}, "--admin is '9101', expected host:port, or :port, [::1]:port, or off"),
        (["--verify=maybe"], {}, "--verify is 'maybe', expected true or false"),
        ([], {"APP_PORTS": "1,x"}, "APP_PORTS is 'x', expected a whole number"),
        (["--ports", "1_0"], {}, "--ports is '1_0', expected a whole number"),
        (["--ratio", "nan"], {}, "--ratio is 'nan', expected a number"),
        (["--upstream"], {}, "--upstream has no value: give one, as --upstream VALUE or --upstream=VALUE"),
        (["--tag", "--verify"], {}, "--tag has no value: give one, as --tag VALUE or --tag=VALUE"),
        (["--chunk-agee", "5"], {}, "--chunk-agee is unknown; did you mean --chunk-age?"),
        (["--cofnig", "x"], {}, "--cofnig is unknown; did you mean --config?"),
        (["--qqqq"], {}, "--qqqq is unknown; see --help"),
        (["-x"], {}, "-x is unknown; see --help"),
        (["--no-tag"], {}, "--no-tag is unknown; did you mean --tag?"),
        (["--pod-name", "x"], {}, "--pod-name is unknown; see --help"),
        ([], {"APP_TAG": "[a"}, 'APP_TAG begins with [ but is not JSON: Expecting value: line 1 column 2 (char 1); write ["a", "b"]'),
        (
            ["--secret-key", "hunter2"],
            {},
            "--secret-key would show the secret in every list of processes; give --secret-key-file, or set APP_SECRET_KEY",
        ),
        (
            [],
            {"APP_SECRET_KEY": "hunter2", "APP_SECRET_KEY_FILE": "/x"},
            "APP_SECRET_KEY and APP_SECRET_KEY_FILE are both set; keep one",
        ),
        (
            ["--secret-key-file", "/nowhere"],
            {},
            "--secret-key-file is '/nowhere', which cannot be read: No such file or directory; is it mounted?",
        ),
        (["--config", "/nowhere.yaml"], {}, "cannot read --config /nowhere.yaml: No such file or directory; is it mounted and readable?"),
        (["--config", "/x.ini"], {}, "--config is '/x.ini', expected a name that ends in .yaml, .yml, .json or .toml"),
    ],
)  # fmt: skip
def test_an_error_says_what_happened_to_which_value_and_what_to_do(
    argv: list[str], environ: Mapping[str, str], message: str
) -> None:
    assert refused(*argv, **environ) == message


def test_a_program_without_arguments_refuses_them() -> None:
    with pytest.raises(WrongSettings, match="'x' is no flag, and no other argument is expected; see --help"):
        load(Common, prog="app", prefix="APP_", argv=["x"], environ={})


@pytest.mark.parametrize(
    "url", ["http://user:hunter2@host/x", "redis://:hunter2@host:1", "https://u:hunt/er2@host", "a=http://u:hunter2@h"]
)
def test_a_password_in_a_url_on_the_command_line_is_refused_and_not_repeated(url: str) -> None:
    for argv in (("--url", url), (f"--url={url}",), (url,)):
        message = refused(*argv)
        assert "holds a password in a URL, which every list of processes shows; set APP_" in message
        assert "hunt" not in message
    assert given("--url", url, passwords=True).url == url
    assert given(APP_URL=url).url == url


@pytest.mark.parametrize("url", ["http://host:80/x", "ssh://git@host/x", "http://host:80/a@b", "s3://bucket/a:b@c"])
def test_a_url_without_a_password_is_taken(url: str) -> None:
    assert given("--url", url).url == url


def test_an_error_never_repeats_a_secret(tmp_path: Path) -> None:
    file = config(tmp_path, 'ratio: "${TOKEN}"')
    message = refused(file, TOKEN="hunter2")
    assert message == f"ratio in {tmp_path}/app.yaml is '${{TOKEN}}', expected a number"
    assert "hunter2" not in refused(APP_RATIO="http://u:hunter2@host")


def test_a_secret_comes_from_a_file_or_a_variable(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("hunter2\n")
    file = str(tmp_path / "key")
    ways: list[tuple[list[str], dict[str, str]]] = [
        (["--secret-key-file", file], {}),
        ([], {"APP_SECRET_KEY_FILE": file}),
        ([], {"APP_SECRET_KEY": "hunter2"}),
        ([config(tmp_path, f"secret_key_file: {file}", "file.yaml")], {}),
        ([config(tmp_path, "secret_key: ${TOKEN}", "text.yaml")], {"TOKEN": "hunter2"}),
    ]
    for argv, environ in ways:
        secret = given(*argv, **environ).secret_key
        assert secret is not None
        assert secret.reveal() == "hunter2"


def test_a_secret_in_plain_text_in_the_file_is_refused_and_not_repeated(tmp_path: Path) -> None:
    assert refused(config(tmp_path, "secret_key: hunter2")) == (
        f"secret_key in {tmp_path}/app.yaml holds a secret in plain text; give secret_key_file, or a variable as ${{VAR}}"
    )


def test_an_empty_secret_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("\n")
    assert "which is empty; write the secret into it" in refused("--secret-key-file", str(tmp_path / "key"))


def test_an_unknown_variable_warns_and_one_of_a_service_is_silent() -> None:
    links = {
        "APP_PORT": "tcp://10.0.0.1:80",
        "APP_PORT_80_TCP": "tcp://10.0.0.1:80",
        "APP_PORT_80_TCP_ADDR": "10.0.0.1",
        "APP_SERVICE_HOST": "10.0.0.1",
        "APP_SERVICE_PORT_HTTP": "80",
        "APP_WEB_SERVICE_HOST": "10.0.0.1",
        "APP_WEB_PORT": "tcp://10.0.0.1:80",
        "APP_WEB_PORT_80_TCP_PROTO": "tcp",
    }
    found = given(**links, APP_CHUNK_AGEE="5", APP_ADMIN_PORT="9101", OTHER="x", APPLE="x")
    first, second = found.provenance.warnings
    assert first == "the variable APP_ADMIN_PORT is unknown; did you mean APP_ADMIN_POST?"
    assert second == "the variable APP_CHUNK_AGEE is unknown; did you mean APP_CHUNK_AGE?"


def test_a_mapping_in_the_file_is_read_like_everything_else(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("hunter2")
    file = config(
        tmp_path,
        f"""
        upstreams:
        - {{address: "a:1", from: end, weight: 3, key_file: {tmp_path}/key}}
        - address: ${{HOST}}:2
          weight: ${{WEIGHT}}
        """,
    )
    first, second = given(file, HOST="b", WEIGHT="7").upstreams
    assert (first.address.port, first.from_, first.weight) == (1, "end", 3)
    assert first.key is not None
    assert first.key.reveal() == "hunter2"
    assert (second.address, second.from_, second.weight) == ("b:2", "start", 7)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("upstreams: [{address: 'a:1', from: begin}]", "upstreams[0].from in FILE is 'begin', expected start or end"),
        ("upstreams: [{address: 'a:1', frm: end}]", "upstreams[0].frm in FILE is unknown; did you mean from?"),
        ("upstreams: [{from: end}]", "upstreams[0].address in FILE is not set: give it"),
        (
            "upstreams: [{address: 'a:1', qq: 1}]",
            "upstreams[0].qq in FILE is unknown; known are address, from, key, key_file, weight",
        ),
        ("upstreams: [a]", "upstreams[0] in FILE is 'a', expected a mapping with the keys address, from, weight, key, key_file"),
        ("upstreams: {a: 1}", "upstreams in FILE is a mapping, expected a list"),
        ("chunk_agee: 5", "chunk_agee in FILE is unknown; did you mean chunk_age?"),
        ("tag: a", "tag in FILE is 'a', expected a list"),
        ("url: 5", "url in FILE is 5, expected text"),
        ("chunk_age: [5]", "chunk_age in FILE is a list, expected seconds, or 90s, 5m, 1h"),
        ("chunk_age: -5", "chunk_age in FILE is -5, expected seconds, or 90s, 5m, 1h"),
        ("chunk_age: true", "chunk_age in FILE is True, expected seconds, or 90s, 5m, 1h"),
        ("ports: [1.5]", "ports[0] in FILE is 1.5, expected a whole number"),
        ("verify: 2", "verify in FILE is 2, expected true or false"),
        ("from:", "from in FILE is empty, expected start or end"),
        ("pod_name: x", "pod_name in FILE is unknown; see --help"),
        ("provenance: {}", "provenance in FILE is unknown; see --help"),
        ("secret_key: ${A}\nsecret_key_file: x", "secret_key in FILE is set beside secret_key_file; keep one"),
    ],
)  # fmt: skip
def test_an_error_in_the_file_names_the_place(tmp_path: Path, text: str, message: str) -> None:
    file = config(tmp_path, text)
    assert refused(file, A="x") == message.replace("FILE", f"{tmp_path}/app.yaml")


def test_people_are_shown_no_secret_no_expansion_and_no_userinfo(tmp_path: Path) -> None:
    file = config(tmp_path, "upstreams: [{address: '${HOST}:1', key: '${TOKEN}'}]\ntag: ['${TOKEN}', plain]")
    settings = given(
        file, HOST="internal-host", TOKEN="hunter2", APP_URL="http://u:hunter2@h", APP_SECRET_KEY="hunter2"
    )
    visible = shown(settings)
    assert "hunter2" not in repr(visible)
    assert "internal-host" not in repr(visible)
    assert visible["upstreams"] == [{"address": "${HOST}:1", "from": "start", "weight": 1, "key": "***"}]
    assert visible["tag"] == ["${TOKEN}", "plain"]
    assert visible["url"] == "http://***@h"
    assert visible["secret_key"] == "***"
    assert (visible["chunk_age"], visible["chunk_size"], visible["admin"], visible["ratio"]) == (
        "1m",
        None,
        ":9105",
        0.5,
    )
    assert "provenance" not in visible
    assert settings.provenance.conceal("cannot reach internal-host:1") == "cannot reach ${HOST}:1"


PROGRAM = """
import sys
from sidecars.core.errors import WrongSettings
from sidecars.core.settings import load
sys.path.insert(0, {folder!r})
from test_settings import Settings
try:
    settings = load(Settings, prog="app", prefix="APP_")
except WrongSettings as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
print(settings.upstream)
"""


def run(*argv: str, **environ: str) -> tuple[int, str, str]:
    program = PROGRAM.format(folder=str(Path(__file__).parent))
    ended = subprocess.run(
        [sys.executable, "-c", program, *argv], env=environ, capture_output=True, text=True, timeout=30, check=False
    )
    return ended.returncode, ended.stdout, ended.stderr


@pytest.mark.parametrize(
    ("argv", "code", "out", "err"),
    [
        (["--upstream", "a:1"], 0, "a:1\n", ""),
        ([], 2, "", "--upstream is not set: give it, or set APP_UPSTREAM\n"),
        (["--check-config", "--upstream", "a:1"], 0, "settings are valid\n", ""),
        (["--check-config", "--upstream", "a"], 2, "", "--upstream is 'a', expected host:port, "),
        (["--version", "--nonsense"], 0, f"app {__version__}\n", ""),
    ],
)
def test_the_process_answers_and_exits_as_asked(argv: list[str], code: int, out: str, err: str) -> None:
    got = run(*argv)
    assert got[:2] == (code, out)
    assert got[2].startswith(err) if err else got[2] == ""


def test_check_config_says_what_it_does_not_know() -> None:
    code, out, err = run("--check-config", "--upstream=a:1", APP_UPSTRAEM="b:1")
    assert (code, out) == (0, "settings are valid\n")
    assert err == "the variable APP_UPSTRAEM is unknown; did you mean APP_UPSTREAM?\n"


def test_help_fits_80_columns_and_names_every_flag_variable_and_default() -> None:
    code, out, _ = run("--nonsense", "--help")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    text = " ".join(out.split())
    for expected in (
        "usage: app [FLAG...] PATH...",
        "--chunk-age SECONDS When to end a chunk. (default: 1m) [APP_CHUNK_AGE]",
        "--upstream HOST:PORT Where to relay to. (required) [APP_UPSTREAM]",
        "--secret-key-file FILE The key. [APP_SECRET_KEY or APP_SECRET_KEY_FILE]",
        "--verify Verify. (default: true) [APP_VERIFY]",
        "--from start|end Where to begin. (default: start) [APP_FROM]",
        "POD_NAME Name of the pod",
    ):
        assert expected in text
    assert "upstreams" not in text


def test_help_into_a_pipe_that_is_closed_early_ends_in_peace() -> None:
    program = PROGRAM.format(folder=str(Path(__file__).parent))
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing) as closed:
        command = [sys.executable, "-c", program, "--help"]
        ended = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, timeout=30, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_reading_settings_imports_neither_yaml_nor_json_nor_argparse() -> None:
    program = "import sys; from sidecars.core.settings import Common, load; before = set(sys.modules)\n"
    program += "load(Common, prog='app', prefix='APP_', argv=['--grace', '5s'], environ={'APP_LOG_LEVEL': 'debug'})\n"
    program += "print(*sorted(set(sys.modules) & {'yaml', 'json', 'tomllib', 'argparse', 'difflib', 'inspect'}))"
    seen = subprocess.run([sys.executable, "-S", "-c", path() + program], capture_output=True, text=True, check=True)
    assert set(seen.stdout.split()) <= {"inspect"}, "typing_extensions, where it is installed, brings inspect"


def path() -> str:
    """Set the module path by hand: site, which -S leaves out, imports more than the program does."""
    return f"import sys; sys.path[:] = {sys.path!r}\n"


def test_no_setting_has_a_name_that_kubernetes_gives_to_the_variables_of_services() -> None:
    packages = [f"sidecars.{found.name}.settings" for found in pkgutil.iter_modules(sidecars.__path__) if found.ispkg]
    modules = [importlib.import_module(name) for name in packages if importlib.util.find_spec(name)]
    kinds: list[Any] = [kind for module in modules for kind in vars(module).values()]
    settings = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Common)]
    assert len(settings) >= 2
    for kind in settings:
        names = {setting.key for setting in declared(kind)}
        assert not {name for name in names if name == "port" or name.startswith(("port_", "service_"))}
        assert not names & {"config", "check_config", "help", "version"}, "load answers these itself"
