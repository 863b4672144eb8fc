"""Settings that do not fit together are refused as git-sync refuses them, one message for each."""

# ruff: noqa: E501  (a row of the table stands whole)

from __future__ import annotations

import signal

import pytest

from sidecars.syncer import words
from sidecars.syncer.checks import WrongConfiguration, signal_number

REPO, ROOT = "--repo=https://git.example/app", "--root=/git"
HOOKS = [
    ("exechook", "--exechook-command=/h"),
    ("pre-publish-exechook", "--pre-publish-exechook-command=/h"),
    ("webhook", "--webhook-url=http://h"),
]
APP = ["--github-app-client-id=c", "--github-app-installation-id=7"]
KEY = "--github-app-private-key-file=/k"

REFUSED = [
    ([], {}, "--root must be specified"),
    ([REPO], {}, "--root must be specified"),
    ([ROOT], {}, "--repo must be specified"),
    ([REPO, ROOT, "--ref="], {}, "--ref must be specified"),
    ([REPO, ROOT, "--depth=-1"], {}, "--depth is -1"),
    ([REPO, ROOT, "--submodules=some"], {}, "--submodules is 'some'"),
    ([REPO, ROOT, "--submodules="], {}, "--submodules is ''"),
    ([REPO, ROOT, "--git-gc=never"], {}, "--git-gc is 'never'"),
    ([REPO, ROOT, "--period=9ms"], {}, "--period is 9ms, expected 10ms or more"),
    ([REPO, ROOT, "--period=-1s"], {}, "--period is "),
    ([REPO, ROOT, "--wait=0.001"], {}, "--period is 1ms"),
    ([REPO, ROOT, "--init-period=9ms"], {}, "--init-period is 9ms"),
    ([REPO, ROOT, "--sync-timeout=0"], {}, "--sync-timeout is 0s"),
    *(
        ([REPO, ROOT, on, f"--{name}-{limit}=999ms"], {}, f"--{name}-{limit} is 999ms, expected 1s or more")
        for name, on in HOOKS
        for limit in ("timeout", "backoff")
    ),
    ([REPO, ROOT, "--webhook-success-status=-2"], {}, "--webhook-success-status is -2"),
    ([REPO, ROOT, "--sync-on-signal=SIGNOTHING"], {}, "--sync-on-signal is 'SIGNOTHING', which is no signal"),
    ([REPO, ROOT, "--sync-on-signal=4711"], {}, "--sync-on-signal is '4711'"),
    ([REPO, ROOT, "--sync-on-signal=KILL"], {}, "--sync-on-signal is 'KILL', which no process can catch"),
    ([REPO, ROOT, "--username=bot"], {}, "--username needs"),
    ([REPO, ROOT, "--username=bot"], {"GITSYNC_PASSWORD": "a", "GITSYNC_PASSWORD_FILE": "/p"}, "--password-file and GITSYNC_PASSWORD are both set"),
    (["--repo=https://bot@git.example/app", ROOT, "--username=bot", "--password-file=/p"], {}, "--username is given beside credentials"),
    ([REPO, ROOT, "--password-file=/p"], {}, "a password is given without --username"),
    ([REPO, ROOT], {"GITSYNC_PASSWORD": "hunter2"}, "a password is given without --username"),
    ([REPO, ROOT, *APP, "--github-app-application-id=1", KEY], {}, "--github-app-application-id and --github-app-client-id are both given"),
    ([REPO, ROOT, "--github-app-application-id=1", KEY], {}, "a GitHub App needs --github-app-installation-id"),
    ([REPO, ROOT, *APP], {}, "a GitHub App needs --github-app-private-key-file"),
    ([REPO, ROOT, *APP, KEY], {"GITSYNC_GITHUB_APP_PRIVATE_KEY": "k"}, "--github-app-private-key-file and GITSYNC_GITHUB_APP_PRIVATE_KEY are both set"),
    ([REPO, ROOT, *APP, KEY, "--username=bot"], {"GITSYNC_PASSWORD": "hunter2"}, "a GitHub App is given beside"),
    ([REPO, ROOT, *APP, KEY, "--username=bot", "--password-file=/p"], {}, "a GitHub App is given beside"),
    ([REPO, ROOT, "--github-app-installation-id=7"], {}, "--github-app-installation-id needs"),
    ([REPO, ROOT, '--credential={"username": "n", "password": "hunter2"}'], {}, "an entry of --credential has no url"),
    ([REPO, ROOT, '--credential={"url": "u", "password": "hunter2"}'], {}, "an entry of --credential has no url or no username"),
    ([REPO, ROOT, '--credential={"url": "u", "username": "n"}'], {}, "the entry of --credential for u needs one of"),
    ([REPO, ROOT], {"GITSYNC_CREDENTIAL": '{"url": "u", "username": "n", "password": "hunter2", "password-file": "/p"}'}, "the entry of --credential for u needs one of"),
    ([REPO, ROOT, "--http-metrics"], {}, "--http-metrics needs --http-bind"),
    ([REPO, ROOT, "--http-pprof"], {}, "--http-pprof needs --http-bind"),
    ([REPO, ROOT, "--branch=a", "--rev=b"], {}, "--branch and --rev are both set"),
    ([REPO, ROOT, "--change-permissions=1"], {}, "--change-permissions is no longer supported"),
    # Beyond git-sync.
    (["--repo=--upload-pack=touch /tmp/x", ROOT], {}, "--repo is '--upload-pack=touch /tmp/x', which begins with a dash"),
    ([REPO, ROOT, "--ref=--exec=x"], {}, "--ref is '--exec=x', which begins with a dash"),
    ([REPO, ROOT, "--filter=-x"], {}, "--filter is '-x', which begins with a dash"),
    ([REPO, ROOT, "--hook-bind=:1"], {}, "--hook-bind needs --hook-secret-file"),
    ([REPO, ROOT, "--keep-worktrees=-1"], {}, "--keep-worktrees is -1"),
    ([REPO, ROOT, "--concurrency=0"], {}, "--concurrency is 0"),
    ([REPO, ROOT, "--verify-signatures=ssh"], {}, "--verify-signatures=ssh needs --allowed-signers-file"),
    ([REPO, ROOT, "--verify-signatures=gpg"], {}, "--verify-signatures=gpg needs --gpg-keyring-file"),
    ([REPO, ROOT, "--verify-signatures=any", "--gpg-keyring-file=/g"], {}, "--verify-signatures=any needs --allowed-signers-file"),
]  # fmt: skip


@pytest.mark.parametrize(("argv", "environ", "message"), REFUSED, ids=str)
def test_a_wrong_configuration_is_refused(argv: list[str], environ: dict[str, str], message: str) -> None:
    with pytest.raises(WrongConfiguration) as error:
        words.load(argv, environ)
    assert str(error.value).startswith(message)
    assert error.value.exit_code == 1
    assert "hunter2" not in str(error.value)


ACCEPTED = [
    [],
    ["--period=10ms", "--sync-timeout=10ms", "--init-period=10ms", "--depth=0", "--init-period=0"],
    ["--exechook-timeout=1ms", "--webhook-backoff=0", "--pre-publish-exechook-backoff=1ns"],
    ["--webhook-success-status=-1", "--webhook-url=http://h", "--webhook-timeout=1s", "--webhook-backoff=1s"],
    ["--repo=git@git.example:app.git", "--username=bot", "--password-file=/p"],
    ["--repo=https://bot:hunter2@git.example/app"],
    ["--repo=/srv/app", "--sync-on-signal=hup"],
    ["--sync-on-signal=1"],
    [*APP, KEY],
    ["--max-failures=-1", "--init-max-failures=-1"],
    ["--stale-worktree-timeout=-1s"],
]  # fmt: skip


@pytest.mark.parametrize("argv", ACCEPTED, ids=str)
def test_the_limits_themselves_are_accepted(argv: list[str]) -> None:
    assert len(words.load([REPO, ROOT, *argv], {}).repositories) == 1


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("SIGHUP", 1),
        ("HUP", 1),
        ("hup", 1),
        ("sighup", 1),
        ("1", 1),
        ("USR1", 10),
        ("0", None),
        ("", None),
        ("x", None),
    ],
)
def test_a_signal_has_a_number_and_names(text: str, number: int | None) -> None:
    assert signal_number(text) == (number if number is None else signal.Signals(number))


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("{repo: 'https://b:hunter2@h/b', root: /x/../a, name: other}", "two repositories have the root /a"),
        ("{repo: 'https://h/a', root: /b}", "two repositories are called a"),
        ("{repo: 'https://b:hunter2@h/b', root: /b, depth: -1}", "https://***@h/b: --depth is -1"),
        ("{root: /b}", "--repo must be specified"),
    ],
)  # fmt: skip
def test_repositories_that_get_in_each_others_way(
    second: str, message: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("config") / "syncer.yaml"
    file.write_text(f"repositories:\n- {{repo: 'https://h/a', root: /a}}\n- {second}\n")
    with pytest.raises(WrongConfiguration) as error:
        words.load([f"--config={file}"], {})
    assert str(error.value).startswith(message)
    assert "hunter2" not in str(error.value)
