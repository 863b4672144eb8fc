"""git-sync's command line and environment: every flag, every name of its variables, and which of them wins."""

# ruff: noqa: E501  (a row of the table stands whole)

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given as given_by
from hypothesis import strategies as st

from sidecars.core.declaration import declared
from sidecars.core.errors import SidecarError, WrongSettings
from sidecars.core.settings import shown
from sidecars.core.units import Secret
from sidecars.syncer import legacy, words
from sidecars.syncer.checks import WrongConfiguration
from sidecars.syncer.settings import BEYOND, PREFIX, Settings
from sidecars.syncer.words import Words, WrongWords

NEEDED = {"GITSYNC_REPO": "https://git.example/app", "GITSYNC_ROOT": "/git"}


class Option(NamedTuple):
    """An option of git-sync: its flag, its kind, its default, its older variables, and two texts with their values.

    beside  what it cannot be set without
    """

    flag: str
    kind: str
    default: Any
    old: tuple[str, ...]
    texts: tuple[str, str]
    values: tuple[Any, Any]
    beside: tuple[str, ...] = ()

    @property
    def variable(self) -> str:
        return "GITSYNC_" + self.flag.upper().replace("-", "_")

    @property
    def field(self) -> str:
        return self.flag.replace("-", "_")


def text(flag: str, default: str, *old: str, beside: tuple[str, ...] = ()) -> Option:
    return Option(flag, "string", default, old, ("one", "two"), ("one", "two"), beside)


def number(flag: str, default: int | None, *old: str, beside: tuple[str, ...] = ()) -> Option:
    return Option(flag, "int", default, old, ("0x11", "23"), (17, 23), beside)


def switch(flag: str, default: bool, *old: str, beside: tuple[str, ...] = ()) -> Option:
    return Option(flag, "bool", default, old, ("T", "0"), (True, False), beside)


def span(flag: str, default: float, *old: str) -> Option:
    return Option(flag, "duration", default, old, ("1m30s", "1.5h"), (90, 5400))


def choice(flag: str, default: str, one: str, two: str, *old: str) -> Option:
    return Option(flag, "choice", default, old, (one, two), (one, two))


APP = ("--github-app-installation-id=7", "--github-app-private-key-file=/key")
OPTIONS = [
    switch("add-user", False, "GIT_SYNC_ADD_USER"),
    text("askpass-url", "", "GIT_SYNC_ASKPASS_URL", "GIT_ASKPASS_URL"),
    switch("cookie-file", False, "GIT_SYNC_COOKIE_FILE", "GIT_COOKIE_FILE"),
    number("depth", 1, "GIT_SYNC_DEPTH"),
    text("error-file", "", "GIT_SYNC_ERROR_FILE"),
    span("exechook-backoff", 3, "GIT_SYNC_EXECHOOK_BACKOFF"),
    text("exechook-command", "", "GIT_SYNC_EXECHOOK_COMMAND"),
    span("exechook-timeout", 30, "GIT_SYNC_EXECHOOK_TIMEOUT"),
    text("filter", ""),
    text("git", "git", "GIT_SYNC_GIT"),
    text("git-config", "", "GIT_SYNC_GIT_CONFIG"),
    choice("git-gc", "always", "auto", "aggressive", "GIT_SYNC_GIT_GC"),
    text("github-base-url", "https://api.github.com/"),
    number("github-app-application-id", 0, beside=APP),
    text("github-app-client-id", "", beside=APP),
    number("github-app-installation-id", 0, beside=("--github-app-client-id=x", APP[1])),
    switch("group-write", False, "GIT_SYNC_GROUP_WRITE"),
    text("http-bind", "", "GIT_SYNC_HTTP_BIND"),
    switch("http-metrics", False, "GIT_SYNC_HTTP_METRICS", beside=("--http-bind=:80",)),
    switch("http-pprof", False, "GIT_SYNC_HTTP_PPROF", beside=("--http-bind=:80",)),
    number("init-max-failures", None),
    span("init-period", 0),
    text("link", "", "GIT_SYNC_LINK"),
    number("max-failures", 0, "GIT_SYNC_MAX_FAILURES"),
    switch("one-time", False, "GIT_SYNC_ONE_TIME"),
    span("period", 10, "GIT_SYNC_PERIOD"),
    text("pre-publish-exechook-command", ""),
    span("pre-publish-exechook-timeout", 30),
    span("pre-publish-exechook-backoff", 3),
    text("ref", "HEAD"),
    text("repo", "", "GIT_SYNC_REPO"),
    text("root", "", "GIT_SYNC_ROOT"),
    text("sparse-checkout-file", "", "GIT_SYNC_SPARSE_CHECKOUT_FILE"),
    switch("ssh-known-hosts", True, "GIT_SYNC_KNOWN_HOSTS", "GIT_KNOWN_HOSTS"),
    text("ssh-known-hosts-file", "/etc/git-secret/known_hosts", "GIT_SYNC_SSH_KNOWN_HOSTS_FILE", "GIT_SSH_KNOWN_HOSTS_FILE"),
    span("stale-worktree-timeout", 0),
    choice("submodules", "recursive", "shallow", "off", "GIT_SYNC_SUBMODULES"),
    Option("sync-on-signal", "string", "", ("GIT_SYNC_SYNC_ON_SIGNAL",), ("SIGHUP", "usr1"), ("SIGHUP", "usr1")),
    span("sync-timeout", 120, "GIT_SYNC_SYNC_TIMEOUT"),
    text("touch-file", "", "GIT_SYNC_TOUCH_FILE"),
    Option("username", "string", "", ("GIT_SYNC_USERNAME",), ("one", "two"), ("one", "two"), ("--password-file=/p",)),
    number("verbose", 0),
    span("webhook-backoff", 3, "GIT_SYNC_WEBHOOK_BACKOFF"),
    text("webhook-method", "POST", "GIT_SYNC_WEBHOOK_METHOD"),
    number("webhook-success-status", 200, "GIT_SYNC_WEBHOOK_SUCCESS_STATUS"),
    span("webhook-timeout", 1, "GIT_SYNC_WEBHOOK_TIMEOUT"),
    text("webhook-url", "", "GIT_SYNC_WEBHOOK_URL"),
]  # fmt: skip
# Options that are read in ways of their own; tests of their own are below.
OTHERS = {"credential", "git-config-add", "ssh-key-file", "password-file", "github-app-private-key-file"}


def load(*argv: str, **environ: str) -> Words:
    return words.load(argv, {**NEEDED, **environ})


def given(*argv: str, **environ: str) -> Settings:
    return load(*argv, **environ).repositories[0]


def refused(kind: type[SidecarError], *argv: str, **environ: str) -> str:
    with pytest.raises(kind) as error:
        load(*argv, **environ)
    return str(error.value)


def named(option: Option) -> str:
    return option.flag


def test_the_table_has_every_flag_of_git_sync_and_no_other() -> None:
    flags = {
        each.flag.removeprefix("--") for each in declared(Settings, PREFIX) if each.flag and each.name not in BEYOND
    }
    assert flags == {each.flag for each in OPTIONS} | OTHERS


@pytest.mark.parametrize("option", OPTIONS, ids=named)
def test_a_flag_is_read(option: Option) -> None:
    for how in ([f"--{option.flag}={option.texts[0]}"], [f"--{option.flag}", option.texts[0]]):
        if option.kind == "bool" and len(how) > 1:
            how = how[:1]  # a boolean takes no word after it
        assert getattr(given(*option.beside, *how), option.field) == option.values[0]


@pytest.mark.parametrize("option", OPTIONS, ids=named)
def test_without_it_the_default_holds(option: Option) -> None:
    if option.variable not in NEEDED:
        assert getattr(given(), option.field) == option.default


@pytest.mark.parametrize("option", OPTIONS, ids=named)
def test_its_variable_is_read_and_the_flag_wins_over_it(option: Option) -> None:
    environ = {option.variable: option.texts[1]}
    assert getattr(given(*option.beside, **environ), option.field) == option.values[1]
    assert load(*option.beside, **environ).notices == ()
    assert (
        getattr(given(*option.beside, f"--{option.flag}={option.texts[0]}", **environ), option.field)
        == option.values[0]
    )


@pytest.mark.parametrize(("option", "old"), [(each, old) for each in OPTIONS for old in each.old], ids=str)
def test_an_old_variable_is_read_and_deprecated_and_wins_over_the_new_one(option: Option, old: str) -> None:
    found = load(*option.beside, **{old: option.texts[0]})
    assert getattr(found.repositories[0], option.field) == option.values[0]
    assert f"${old} is deprecated: use ${option.variable}" in found.notices
    both = load(*option.beside, **{old: option.texts[0], option.variable: option.texts[1]})
    assert getattr(both.repositories[0], option.field) == option.values[0]
    assert f"${option.variable} is overridden by ${old}" in both.notices


@pytest.mark.parametrize("option", [each for each in OPTIONS if len(each.old) > 1], ids=named)
def test_of_three_names_the_last_wins(option: Option) -> None:
    first, second = option.old
    found = load(**{option.variable: option.texts[1], first: option.texts[1], second: option.texts[0]})
    assert getattr(found.repositories[0], option.field) == option.values[0]
    assert [line for line in found.notices if "overridden" in line] == [
        f"${option.variable} is overridden by ${second}", f"${first} is overridden by ${second}",
    ]  # fmt: skip


def test_no_variable_has_an_older_name_that_the_table_does_not_have() -> None:
    known = {each.variable: each.old for each in OPTIONS if each.old}
    known["GITSYNC_PASSWORD"] = ("GIT_SYNC_PASSWORD",)
    known["GITSYNC_PASSWORD_FILE"] = ("GIT_SYNC_PASSWORD_FILE",)
    known["GITSYNC_SSH_KEY_FILE"] = ("GIT_SYNC_SSH_KEY_FILE", "GIT_SSH_KEY_FILE")
    assert known == legacy.VARIABLES


TYPED = [each for each in OPTIONS if each.kind in ("int", "bool", "duration")]


@pytest.mark.parametrize("option", TYPED, ids=named)
@pytest.mark.parametrize("wrong", ["soon", ""])
def test_a_value_that_does_not_parse_ends_with_1_from_a_variable_and_with_2_from_a_flag(
    option: Option, wrong: str
) -> None:
    for name in (option.variable, *option.old):
        message = refused(WrongSettings, **{name: wrong})
        assert message.startswith(f'invalid {option.kind} env {option.variable}="{wrong}"')
    message = refused(WrongWords, f"--{option.flag}={wrong}")
    assert message.startswith(f"invalid argument '{wrong}' for --{option.flag}; expected ")
    assert WrongWords.exit_code == 2


@pytest.mark.parametrize("option", [each for each in OPTIONS if each.kind == "choice"], ids=named)
def test_a_wrong_word_is_a_wrong_configuration_wherever_it_stands(option: Option) -> None:
    for how in ({}, {option.variable: "other"}):
        argv = () if how else (f"--{option.flag}=other",)
        assert refused(WrongConfiguration, *argv, **how).startswith(f"--{option.flag} is 'other', expected one of ")


# Lists


def test_ssh_keys_replace_the_default_then_add_up() -> None:
    assert given().ssh_key_file == ("/etc/git-secret/ssh",)
    assert given(GITSYNC_SSH_KEY_FILE="/a:/b").ssh_key_file == ("/a", "/b")
    assert given(GIT_SSH_KEY_FILE="/c", GITSYNC_SSH_KEY_FILE="/a:/b").ssh_key_file == ("/c",)
    assert given("--ssh-key-file=/d", "--ssh-key-file", "/e", GITSYNC_SSH_KEY_FILE="/a:/b").ssh_key_file == ("/d", "/e")


def test_git_config_add_adds_up_and_may_hold_commas() -> None:
    assert given("--git-config-add=a.b:c,d", "--git-config-add=e.f:g").git_config_add == ("a.b:c,d", "e.f:g")


def test_arguments_of_the_exechook_may_look_like_flags() -> None:
    assert given("--exechook-arg", "--help", "--exechook-arg=a b").exechook_arg == ("--help", "a b")
    assert given(GITSYNC_EXECHOOK_ARG='["a, b", "-c"]').exechook_arg == ("a, b", "-c")


LOGIN = {"url": "https://git.example/", "username": "bot", "password": "hunter2"}


def test_credentials_are_objects_or_lists_and_add_to_those_of_the_variable() -> None:
    one, two = json.dumps(LOGIN), json.dumps({"url": "u", "username": "n", "password-file": "/p"})
    found = given(f"--credential={two}", f"--credential=[{one},{one}]", GITSYNC_CREDENTIAL=one).credentials()
    assert [each.username for each in found] == ["bot", "n", "bot", "bot"]
    assert found[1].password_file == "/p"


@pytest.mark.parametrize("wrong", ["", "{", "7", '"x"', '{"url": 7}', json.dumps({**LOGIN, "realm": "x"}), "[7]"])
def test_a_credential_that_is_none_is_ignored_in_the_variable_and_ends_with_2_as_a_flag(wrong: str) -> None:
    assert given(GITSYNC_CREDENTIAL=wrong).credential == ()
    message = refused(WrongWords, f"--credential={wrong}")
    assert message.startswith("invalid argument for --credential; expected JSON such as")
    assert "hunter2" not in message


# Secrets


def secret(found: Secret | None) -> tuple[str | None, str | None]:
    return ("", "") if found is None else (found.file, None if found.file else found.reveal())


@pytest.mark.parametrize(
    ("argv", "environ", "expected"),
    [
        ((), {"GITSYNC_PASSWORD": "a"}, (None, "a")),
        ((), {"GITSYNC_PASSWORD": "a", "GIT_SYNC_PASSWORD": "b"}, (None, "b")),
        ((), {"GITSYNC_PASSWORD_FILE": "/a"}, ("/a", None)),
        ((), {"GIT_SYNC_PASSWORD_FILE": "/b", "GITSYNC_PASSWORD_FILE": "/a"}, ("/b", None)),
        (("--password-file=/c",), {"GITSYNC_PASSWORD_FILE": "/a"}, ("/c", None)),
        (("--password=c",), {"GITSYNC_PASSWORD": "a"}, (None, "c")),
        (("--password-file=/c",), {"GITSYNC_PASSWORD": ""}, ("/c", None)),
        (("--password-file=",), {"GITSYNC_PASSWORD": "a", "GITSYNC_PASSWORD_FILE": "/a"}, (None, "a")),
    ],
)  # fmt: skip
def test_the_password(argv: tuple[str, ...], environ: dict[str, str], expected: tuple[str, str]) -> None:
    assert secret(given("--username=bot", *argv, **environ).password) == expected


@pytest.mark.parametrize(
    ("argv", "environ"),
    [
        (("--password-file=/c",), {"GITSYNC_PASSWORD": "hunter2"}),
        ((), {"GITSYNC_PASSWORD_FILE": "/c", "GITSYNC_PASSWORD": "hunter2"}),
        (("--password-file=/c", "--password=hunter2"), {}),
    ],
)  # fmt: skip
def test_a_password_and_its_file_are_one_too_many(argv: tuple[str, ...], environ: dict[str, str]) -> None:
    message = refused(WrongConfiguration, "--username=bot", *argv, **environ)
    assert message == "--password-file and GITSYNC_PASSWORD are both set; keep one"


def test_the_key_of_a_github_app() -> None:
    app = ("--github-app-client-id=a", "--github-app-installation-id=0x10")
    assert secret(given(*app, GITSYNC_GITHUB_APP_PRIVATE_KEY="PEM").github_app_private_key) == (None, "PEM")
    assert secret(given(*app, "--github-app-private-key-file=/k").github_app_private_key) == ("/k", None)
    message = refused(
        WrongConfiguration, *app, "--github-app-private-key-file=/k", GITSYNC_GITHUB_APP_PRIVATE_KEY="PEM"
    )
    assert message == "--github-app-private-key-file and GITSYNC_GITHUB_APP_PRIVATE_KEY are both set; keep one"


# The command line


@pytest.mark.parametrize(
    "how", [["-v", "6"], ["-v=6"], ["-v6"], ["--verbose=6"], ["--verbose", "6"], ["--v=6"], ["--v", "6"]]
)
def test_the_verbosity(how: list[str]) -> None:
    assert given(*how).verbose == 6


@pytest.mark.parametrize(("how", "on"), [("--one-time", True), *((f"--one-time={text}", True) for text in ("1", "t", "T", "true", "TRUE", "True")),
                                        *((f"--one-time={text}", False) for text in ("0", "f", "F", "false", "FALSE", "False"))])  # fmt: skip
def test_a_boolean_flag(how: str, on: bool) -> None:
    assert given(how).one_time is on


def test_a_boolean_takes_no_word_after_it_and_other_words_are_ignored() -> None:
    assert given("--one-time", "false", "sync", "-", "--depth=3", "please").one_time is True
    assert given("sync", "--depth=3").depth == 3
    assert given("--depth=3", "--", "--depth=4", "--nonsense").depth == 3


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--perod=1s"], "unknown flag: --perod; did you mean --period?"),
        (["--nonsense"], "unknown flag: --nonsense"),
        (["-repo=https://bot:hunter2@git.example"], "unknown shorthand flag: 'r' in -repo; long flags have two dashes"),
        (["-x"], "unknown shorthand flag: 'x' in -x"),
        (["--depth"], "flag needs an argument: --depth"),
        (["-v"], "flag needs an argument: --verbose"),
        (["--wait=soon"], "invalid value 'soon' for --wait; expected a number"),
        (["--wait=nan"], "invalid value 'nan' for --wait"),
        (["--timeout=1.5"], "invalid value '1.5' for --timeout; expected a whole number"),
        (["--logtostderr"], "unknown flag: --logtostderr"),
    ],
)  # fmt: skip
def test_a_command_line_that_cannot_be_read(argv: list[str], message: str) -> None:
    text = refused(WrongWords, *argv)
    assert text.startswith(message)
    assert "hunter2" not in text


ANYTHING = ["", "0", "-1", "x", "10s", "0x", "true", "[1]", '{"url": 1}', "nan", "9" * 30, "-5s", "\udcff", "é", "http://[",
            "https://a:b@[::1", "'", "1e400", "SIGHUP", "${X}", "09", "--", "-v="]  # fmt: skip


@given_by(st.data())
def test_whatever_is_given_it_is_settings_or_an_error_that_is_told(data: st.DataObject) -> None:
    flags = [each.flag for each in declared(Settings, PREFIX) if each.flag] + [f"--{name}" for name in legacy.FLAGS]
    odd = ["-v", "-x", "--", "--=", "---", "--=x", "-", "-=", "-v=", "-h5", "--config"]
    names = sorted({*legacy.VARIABLES, *(old for each in legacy.VARIABLES.values() for old in each)})
    words_ = st.sampled_from([*flags, *odd, *ANYTHING])
    argv = data.draw(
        st.lists(
            st.one_of(words_, st.tuples(st.sampled_from(flags), st.sampled_from(ANYTHING)).map("=".join)), max_size=5
        )
    )
    environ = data.draw(st.dictionaries(st.sampled_from(names), st.sampled_from(ANYTHING), max_size=2))
    with contextlib.suppress(SidecarError):
        words.asked(argv)
        load(*argv, **environ)


QUESTIONS = [
    (["--help"], "help"), (["-h"], "help"), (["-?"], "help"), (["--man"], "man"), (["--version"], "version"),
    (["--depth=x", "--version"], "version"), (["--nonsense", "--man"], "man"), (["--one-time", "-h"], "help"),
    ([], ""), (["--ref", "--help"], ""), (["-v", "-h"], ""), (["--exechook-arg", "--man", "--version"], "version"),
    (["--", "--help"], ""), (["--wait", "--help"], ""),
]  # fmt: skip


@pytest.mark.parametrize(("argv", "question"), QUESTIONS, ids=str)
def test_questions_come_before_everything_else(argv: list[str], question: str) -> None:
    assert words.asked(argv) == question


def test_the_answers() -> None:
    assert words.answer("version").startswith("git-syncer ")
    help, man = words.answer("help"), words.answer("man")
    assert max(map(len, help.splitlines())) <= 80
    for setting in declared(Settings, PREFIX):
        for name in filter(None, (setting.flag, *setting.variables)):
            assert name in help
            assert name in man
    for name in (*legacy.FLAGS, *(old for each in legacy.VARIABLES.values() for old in each)):
        assert name in man


# Version 3

V3 = [
    (["--branch=b"], {}, "ref", "b"),
    ([], {"GIT_SYNC_BRANCH": "b"}, "ref", "b"),
    (["--branch=b", "--rev=HEAD"], {}, "ref", "b"),
    (["--rev=r"], {}, "ref", "r"),
    ([], {"GIT_SYNC_REV": "r"}, "ref", "r"),
    (["--ref=new", "--branch=b"], {}, "ref", "b"),
    (["--branch="], {"GITSYNC_REF": "new"}, "ref", "new"),
    (["--dest=d", "--link=l"], {}, "link", "d"),
    (["--dest=", "--link=l"], {}, "link", "l"),
    ([], {"GIT_SYNC_DEST": "d"}, "link", "d"),
    (["--wait=1.5"], {}, "period", 1.5),
    (["--wait=0.1234"], {}, "period", 0.123),
    (["--wait=0", "--period=7s"], {}, "period", 7),
    ([], {"GIT_SYNC_WAIT": "30"}, "period", 30),
    (["--timeout=90"], {}, "sync_timeout", 90),
    (["--timeout=0"], {}, "sync_timeout", 120),
    ([], {"GIT_SYNC_TIMEOUT": "0x10"}, "sync_timeout", 16),
    (["--max-sync-failures=-1"], {}, "max_failures", -1),
    (["--max-sync-failures=0", "--max-failures=3"], {}, "max_failures", 3),
    ([], {"GIT_SYNC_MAX_SYNC_FAILURES": "5"}, "max_failures", 5),
    (["--sync-hook-command=/h"], {}, "exechook_command", "/h"),
    ([], {"GIT_SYNC_HOOK_COMMAND": "/h"}, "exechook_command", "/h"),
    (["--v=0", "-v=6"], {}, "verbose", 0),
    (["--v=-1", "-v=6"], {}, "verbose", 6),
    (["--ssh"], {}, "ref", "HEAD"),
    (["--ssh=false"], {}, "ref", "HEAD"),
    (["--change-permissions=0"], {}, "group_write", False),
]  # fmt: skip


@pytest.mark.parametrize(("argv", "environ", "field", "value"), V3, ids=str)
def test_a_flag_of_version_3_overrides_and_is_deprecated(
    argv: list[str], environ: dict[str, str], field: str, value: Any
) -> None:
    found = load(*argv, **environ)
    assert getattr(found.repositories[0], field) == value
    assert any("is deprecated: use " in line for line in found.notices)


def test_the_table_of_version_3_is_whole() -> None:
    argv = {word.partition("=")[0].removeprefix("--") for row in V3 for word in row[0]}
    variables = {name for row in V3 for name in row[1]}
    assert set(legacy.FLAGS) <= argv | {"password"}
    assert {flag.variable for flag in legacy.FLAGS.values()} - {"", "GIT_SYNC_PERMISSIONS"} <= variables


def test_the_variable_of_ssh_is_ignored() -> None:
    assert load(GIT_SYNC_SSH="nonsense").notices == ()


@pytest.mark.parametrize(
    ("argv", "environ"), [(["--change-permissions=0o755"], {}), ([], {"GIT_SYNC_PERMISSIONS": "0755"})]
)
def test_change_permissions_is_refused(argv: list[str], environ: dict[str, str]) -> None:
    assert "use --group-write" in refused(WrongConfiguration, *argv, **environ)


def test_a_branch_and_a_revision_are_refused() -> None:
    assert "use --ref" in refused(WrongConfiguration, "--branch=b", "--rev=abc")
    assert "use --ref" in refused(WrongConfiguration, GIT_SYNC_BRANCH="b", GIT_SYNC_REV="abc")


def test_a_wrong_old_variable_ends_with_1() -> None:
    assert refused(WrongSettings, GIT_SYNC_WAIT="soon").startswith("invalid value 'soon' for GIT_SYNC_WAIT")


# What is told


def test_flags_of_the_command_line_are_told_without_secrets() -> None:
    login = json.dumps({**LOGIN, "password": 'hun"ter2'})
    found = load(
        "--repo=https://bot:hunter2@git.example/app", "--depth", "3", "--one-time", "-v=1", f"--credential={login}",
        "--branch=b", GITSYNC_LINK="current",
    )  # fmt: skip
    assert found.given[:4] == ("--repo=https://***@git.example/app", "--depth=3", "--one-time=true", "--verbose=1")
    assert '"REDACTED"' in found.given[4]
    assert len(found.given) == 5
    assert "ter2" not in str(found.given)


def test_what_may_hold_a_secret_is_not_on_the_status_page() -> None:
    settings = given(
        f"--credential={json.dumps(LOGIN)}", "--webhook-url=https://hooks.example/hunter2", "--git-config-add=a.b:hunter2",
        "--askpass-url=http://127.0.0.1/hunter2", "--repo=https://bot:hunter2@git.example/", GITSYNC_GIT_CONFIG="a.b:hunter2",
    )  # fmt: skip
    assert "hunter2" not in str(shown(settings))
    assert shown(settings)["webhook_url"] == "REDACTED"
    assert shown(given())["webhook_url"] == ""


def test_with_more_verbosity_all_flags_are_told() -> None:
    environ = {"GITSYNC_LINK": "current", "GITSYNC_USERNAME": "bot", "GITSYNC_PASSWORD": "hunter2"}
    four, six = load("-v4", **environ).given, load("-v6", **environ).given
    assert "--link=current" in four
    assert "--touch-file=" not in four
    assert "--touch-file=" in six
    assert not any("hunter2" in flag for flag in six)


def test_a_misspelt_variable_is_a_hint_and_the_links_of_a_service_are_none() -> None:
    found = load(GITSYNC_DEPHT="1", GITSYNC_PORT="tcp://10.0.0.1:80", GITSYNC_SERVICE_HOST="10.0.0.1")
    assert found.hints == ("the variable GITSYNC_DEPHT is unknown; did you mean GITSYNC_DEPTH?",)
    assert found.repositories[0].provenance.warnings == ()


def test_an_empty_variable_that_git_sync_does_not_have_counts_as_not_set() -> None:
    settings = given(GITSYNC_ADMIN="", GITSYNC_GRACE="", GITSYNC_KEEP_WORKTREES="", GITSYNC_CONFIG="", POD_NAME="")
    assert (settings.admin, settings.grace, settings.keep_worktrees) == (":9104", 25, 0)


# The config file


def config(folder: Path, content: str) -> str:
    (folder / "syncer.yaml").write_text(content)
    return f"--config={folder}/syncer.yaml"


def test_a_config_file_stands_behind_flags_and_variables(tmp_path: Path) -> None:
    file = config(tmp_path, "ref: file\ndepth: 7\nlink: file\nperiod: 3s\none-time: true\n")
    settings = given(file, "--ref=flag", GITSYNC_DEPTH="9")
    assert (settings.ref, settings.depth, settings.link, settings.period, settings.one_time) == (
        "flag",
        9,
        "file",
        3,
        True,
    )
    assert given(GITSYNC_CONFIG=file.removeprefix("--config=")).ref == "file"


def test_each_repository_overlays_what_all_have(tmp_path: Path) -> None:
    file = config(
        tmp_path,
        """
        period: 1m
        repositories:
        - {repo: "https://git.example/a", root: /a, period: 5s}
        - {repo: "https://git.example/b", root: /b, ref: v2, link: current, name: second, username: bot, password_file: /dev/null}
        """,
    )
    (tmp_path / "password").write_text("hunter2")
    with pytest.raises(WrongSettings, match="is empty"):
        given(file)
    file = config(tmp_path, (tmp_path / "syncer.yaml").read_text().replace("/dev/null", f"{tmp_path}/password"))
    one, two = load(file, "--depth=3").repositories
    assert [(each.root, each.period, each.ref, each.depth, each.name) for each in (one, two)] == [
        ("/a", 5, "HEAD", 3, "a"), ("/b", 60, "v2", 3, "second"),
    ]  # fmt: skip
    assert one.password is None
    assert secret(two.password)[0] == f"{tmp_path}/password"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("repositories: []", "is no list of mappings"),
        ("repositories: {repo: x}", "is no list of mappings"),
        ("repositories: [{repo: x, root: /a, depht: 1}]", "repositories[0].depht in {file} is unknown; did you mean depth?"),
        ("repositories: [{repo: x, root: /a, http_bind: ':1'}]", "repositories[0].http_bind in {file} is one for all"),
        ("period: soon", "period in {file} is 'soon', expected a duration"),
        ("submodules: some", "submodules in {file} is 'some', expected recursive, shallow or off"),
        ("password: hunter2", "holds a secret in plain text"),
        ("credential: [{url: u, username: n, password: hunter2}]", "holds a secret in plain text"),
        ("credential: [{url: u, username: n, passwrod: hunter2}]", "credential[0] in {file} is no credential"),
        ("credential: {url: 7}", "credential[0] in {file} is no credential"),
    ],
)  # fmt: skip
def test_a_config_file_that_cannot_be_used(content: str, message: str, tmp_path: Path) -> None:
    file = config(tmp_path, content)
    text = refused(WrongSettings, file)
    assert message.replace("{file}", file.removeprefix("--config=")) in text
    assert "hunter2" not in text


def test_credentials_of_a_config_file_are_mappings(tmp_path: Path) -> None:
    file = config(
        tmp_path,
        'credential:\n- {url: u, username: n, password-file: /p}\n- {url: v, username: m, password: "${PW}"}\n',
    )
    found = given(file, PW="hunter2").credentials()
    assert [(each.url, each.password_file, each.password) for each in found] == [("u", "/p", ""), ("v", "", "hunter2")]
