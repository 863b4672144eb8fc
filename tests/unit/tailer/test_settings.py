"""What log-tailer can be told, and what it answers to what it cannot do."""

# ruff: noqa: E501  (a message stands whole, as its reader sees it)

from __future__ import annotations

from pathlib import Path

import pytest

from sidecars.core.errors import WrongSettings
from sidecars.core.forward.settings import Forward
from sidecars.core.reference import usage
from sidecars.core.settings import load
from sidecars.tailer.outputs import Stdout
from sidecars.tailer.settings import PREFIX, PROG, Settings


def given(*argv: str, **environ: str) -> Settings:
    return load(Settings, prog=PROG, prefix=PREFIX, argv=argv, environ=environ)


def refused(*argv: str, **environ: str) -> str:
    with pytest.raises(WrongSettings) as error:
        given(*argv, **environ)
    return str(error.value)


def config(folder: Path, text: str) -> str:
    (folder / "tailer.yaml").write_text(text)
    return f"--config={folder}/tailer.yaml"


def forward(text: str) -> Forward:
    (output,) = given("/a", f"--output={text}").every_output()
    assert isinstance(output, Forward)
    return output


def test_help_fits_80_columns() -> None:
    assert max(map(len, usage(Settings, PROG, PREFIX).splitlines())) <= 80


def test_paths_alone_are_enough() -> None:
    settings = given("/logs/*.log", "/var/log")
    (source,) = settings.every_source()
    assert (source.paths, source.exclude, source.from_, source.multiline) == (
        ("/logs/*.log", "/var/log"),
        (),
        "start",
        None,
    )
    assert settings.every_output() == (Stdout(format="raw", label="none"),)
    assert (settings.admin, settings.quiet, settings.rotate_wait, settings.grace) == (":9101", 2, 5, 25)


def test_the_config_file_of_the_design_is_read(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("hunter2\n")
    file = config(
        tmp_path,
        f"""
        sources:
        - paths: [/logs/*.log]
          exclude: ["*.gz"]
          from: start
          multiline: java
        outputs:
        - stdout: {{label: path}}
        - forward: {{address: "fluentd:24224", tag: app, key_file: {tmp_path}/key}}
        """,
    )
    settings = given(file)
    (source,) = settings.every_source()
    assert (source.paths, source.exclude, source.from_, source.multiline) == (
        ("/logs/*.log",),
        ("*.gz",),
        "start",
        "java",
    )
    stdout, receiver = settings.every_output()
    assert stdout == Stdout(format="raw", label="path")
    assert isinstance(receiver, Forward)
    assert (receiver.host, receiver.port, receiver.tag) == ("fluentd", 24224, "app")
    assert receiver.key is not None
    assert receiver.key.reveal() == "hunter2"


def test_a_source_and_an_output_have_what_all_have_unless_they_say_otherwise(tmp_path: Path) -> None:
    file = config(
        tmp_path,
        """
        sources:
        - {paths: [/a]}
        - {paths: [/b], exclude: [], from: start, multiline: off}
        outputs:
        - stdout: {format: raw}
        - forward: {address: one, key: "${OTHER}"}
        - forward: {address: two}
        """,
    )
    argv = (file, "--from=end", "--exclude=*.gz", "--multiline=go", "--format=json", "--label=name")
    settings = given(*argv, TAILER_FORWARD_KEY="all", OTHER="one")
    first, second = settings.every_source()
    assert (first.exclude, first.from_, first.multiline) == (("*.gz",), "end", "go")
    assert (second.exclude, second.from_, second.multiline) == ((), "start", None)
    stdout, one, two = settings.every_output()
    assert stdout == Stdout(format="raw", label="name")
    assert [output.key.reveal() for output in (one, two) if isinstance(output, Forward) and output.key] == [
        "one",
        "all",
    ]


@pytest.mark.parametrize(
    ("url", "host", "port", "name"),
    [
        ("forward://fluentd", "fluentd", 24224, "fluentd:24224"),
        ("forward://fluentd.logging:1/", "fluentd.logging", 1, "fluentd.logging:1"),
        ("forward://[::1]", "::1", 24224, "[::1]:24224"),
        ("forward://[::1]:1", "::1", 1, "[::1]:1"),
        ("forward+unix:///run/fluent.sock", "unix:///run/fluent.sock", 0, "unix:///run/fluent.sock"),
    ],
)
def test_a_url_says_where_to_forward_to(url: str, host: str, port: int, name: str) -> None:
    output = forward(url)
    assert (output.host, output.port, str(output)) == (host, port, name)


def test_a_url_has_options(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hunter2")
    output = forward(
        "forward://h?tag=app.%7Bfile%7D&tls=true&ca=/tls/ca.crt&server-name=x&verify=off&compress=gzip&keepalive=no"
        f"&window=8&connect_timeout=3s&ack-timeout=1m&username=u&password_file={tmp_path}/password"
    )
    assert (output.tag, output.tls, output.ca, output.server_name) == ("app.{file}", True, "/tls/ca.crt", "x")
    assert (output.verify, output.compress, output.keepalive, output.window) == (False, "gzip", False, 8)
    assert (output.connect_timeout, output.ack_timeout, output.username) == (3, 60, "u")
    assert output.password is not None
    assert output.password.reveal() == "hunter2"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("kafka://h", "the output 'kafka://h' is unknown, expected stdout or forward://HOST:PORT?tag=TAG"),
        ("stdot", "the output 'stdot' is unknown, expected stdout or forward://HOST:PORT?tag=TAG"),
        ("forward://", "forward:// is '', expected HOST:PORT, or unix:///PATH"),
        ("forward://h:x", "forward://h:x is 'h:x', expected HOST:PORT, or unix:///PATH"),
        ("forward://a..b", "forward://a..b is 'a..b', expected HOST:PORT, or unix:///PATH"),
        ("forward+unix://fluent.sock", "forward+unix://fluent.sock is 'unix://fluent.sock', expected HOST:PORT, or unix:///PATH"),
        ("forward://h?taag=x", "forward://h?taag is unknown; did you mean tag?"),
        ("forward://h?tls=maybe", "forward://h?tls is 'maybe', expected true or false"),
        ("forward://h?window=65", "forward://h has window 65, expected 1 to 64"),
        ("forward://h?ca=/x", "forward://h has ca without TLS; add tls, or leave ca out"),
        ("forward://h?username=u", "forward://h has one of username and password; give both, or none"),
        ("forward://h?tag={x}", "tag '{x}' holds {x}, expected {pod}, {namespace}, {file} or plain text"),
        ("forward://h?key=hunter2", "forward://h?key holds a secret in plain text; give key_file, or a variable as ${VAR}"),
        ("forward://hunter2@h", "the output forward://***@h holds a user; give username= and password_file= after a ?"),
    ],
)  # fmt: skip
def test_an_output_that_cannot_be_used_says_why_and_never_its_secret(url: str, message: str) -> None:
    assert refused("/a", TAILER_OUTPUT=url) == message


def test_an_error_found_late_does_not_repeat_what_a_variable_held(tmp_path: Path) -> None:
    message = refused("/a", config(tmp_path, "output: ['${URL}']"), URL="kafka://hidden")
    assert message == "the output '${URL}' is unknown, expected stdout or forward://HOST:PORT?tag=TAG"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "there is nothing to read: give a PATH, set TAILER_PATHS, or list sources in --config"),
        ([""], "a PATH is empty; was it written with a variable that is not set?"),
        (["/a", "--max-line=1k"], "--max-line needs --format json, for raw has no mark for a part; add it, or leave --max-line out"),
        (["/a", "--max-line=0", "--format=json"], "--max-line is 0, which lets nothing through; give more, or off"),
        (["/a", "--rate-limit=0"], "--rate-limit is 0, which lets nothing through; give more, or off"),
        (["/a", "--poll-interval=1ms"], "--poll-interval is 1ms, expected 10ms or more"),
        (["/a", "--ready-when=fresh"], "--ready-when is 'fresh', expected started or delivering"),
        (["/a", "--output=stdout", "--output=stdout"], "the output stdout is given twice; leave one out"),
        (
            ["/a", "--multiline=^[0-9"],
            "--multiline is '^[0-9', expected java, python, go, dotnet, node, ruby, php, rust, all or a regular expression: unterminated character set at character 2",
        ),
        (["/logs/*", "--state-dir=/logs/"], "--state-dir is /logs/, where its files would be read as logs; choose another directory"),
        (["/logs", "--state-dir=/logs"], "--state-dir is /logs, where its files would be read as logs; choose another directory"),
    ],
)  # fmt: skip
def test_settings_that_cannot_go_together_say_why(argv: list[str], message: str) -> None:
    assert refused(*argv) == message


@pytest.mark.parametrize(
    "argv",
    [
        ["/a", "--max-line=1k", "--format=json"],
        ["/a", "--multiline=java"],
        ["/a", r"--multiline=^\d{4}-\d\d"],
        ["/logs/*.log", "--state-dir=/logs"],
        ["/logs/*", "--state-dir=/logs/state"],
        ["/logs/*", "--state-dir=off"],
        ["/a", "--output=stdout", "--output=forward://a", "--output=forward://a?tag=b"],
    ],
)
def test_settings_that_go_together_are_taken(argv: list[str]) -> None:
    assert given(*argv).paths


@pytest.mark.parametrize(
    ("argv", "text", "message"),
    [
        (["/a"], "sources: [{paths: [/b]}]", "PATH and sources are both given; move the paths into sources, or leave sources out"),
        (
            ["/a", "--output=forward://h"],
            "outputs: [{stdout: {}}]",
            "--output and outputs are both given; move the URLs into outputs, or leave outputs out",
        ),
        (["/a"], "outputs: [{}]", "outputs[0] in FILE needs one key, as in stdout: {} or forward: {address: HOST:PORT}"),
        (["/a"], "outputs: [{stdout: {}, forward: {address: h}}]", "outputs[0] in FILE needs one key, "),
        (["/a"], "outputs: [{forward: {address: h, ca: /x}}]", "outputs[0].forward in FILE has ca without TLS; "),
        ([], "sources: [{paths: []}]", "a PATH is empty; "),
        ([], "sources: [{paths: [/a], multiline: '('}]", "--multiline is '(', expected java, python, go, dotnet, node"),
    ],
)  # fmt: skip
def test_a_config_file_that_cannot_be_used_says_why(tmp_path: Path, argv: list[str], text: str, message: str) -> None:
    assert refused(*argv, config(tmp_path, text)).startswith(message.replace("FILE", f"{tmp_path}/tailer.yaml"))
