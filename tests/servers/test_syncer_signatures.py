from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecars.core.errors import SidecarError
from sidecars.core.git import Git
from sidecars.syncer.settings import Settings
from sidecars.syncer.signatures import Signatures, keyring, verdict
from tests.servers.signers import Gpg, Repository, ssh_key


@pytest.fixture(scope="module")
def gpg() -> Iterator[Gpg]:
    if not shutil.which("gpg") or not shutil.which("gpgv"):
        assert not os.environ.get("CI"), "CI needs gpg: apt-get install gnupg"
        pytest.skip("NOT PROVEN HERE: OpenPGP signatures need gpg; apt-get install gnupg")
    with Gpg() as gpg:
        yield gpg


@pytest.fixture(scope="module")
def alice(gpg: Gpg) -> str:
    return gpg.make("alice")


@pytest.fixture
def repository(tmp_path: Path, request: pytest.FixtureRequest) -> Repository:
    return Repository(
        tmp_path / "repository", request.getfixturevalue("gpg") if "gpg" in request.fixturenames else None
    )


def verify(repository: Repository, hash: str, mode: str, **settings: str) -> None:
    chosen = Settings(repo="x", root=str(repository.path), verify_signatures=mode, **settings)  # type: ignore[arg-type]
    Signatures(chosen, Git()).verify(hash, str(repository.path), time.monotonic() + 30)


def refused(repository: Repository, hash: str, mode: str, **settings: str) -> str:
    """Give the text of the refusal."""
    with pytest.raises(SidecarError) as caught:
        verify(repository, hash, mode, **settings)
    return str(caught.value)


@pytest.mark.parametrize("armor", [False, True])
@pytest.mark.parametrize("mode", ["gpg", "any"])
def test_a_commit_signed_by_a_known_openpgp_key_is_good(
    repository: Repository,
    gpg: Gpg,
    alice: str,
    tmp_path: Path,
    armor: bool,
    mode: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "signers").touch()
    keys = gpg.export(tmp_path / "keys", alice, armor=armor)
    signed = repository.commit(gpg=alice)
    verify(repository, signed, mode, gpg_keyring_file=keys, allowed_signers_file=str(tmp_path / "signers"))
    assert f"alice <alice@example.org> with the key {alice[-16:]}" in capfd.readouterr().err


def test_an_openpgp_key_that_is_not_in_the_file_is_refused_even_if_the_user_knows_it(
    repository: Repository, gpg: Gpg, alice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob = gpg.make("bob")
    monkeypatch.setenv("GNUPGHOME", str(gpg.home))
    told = refused(repository, repository.commit(gpg=bob), "gpg", gpg_keyring_file=gpg.export(tmp_path / "k", alice))
    assert f"it is signed with the key {bob[-16:]}, which --gpg-keyring-file does not hold" in told


def test_an_openpgp_key_that_has_expired_or_is_revoked_is_refused(
    repository: Repository, gpg: Gpg, tmp_path: Path
) -> None:
    revoked = gpg.make("revoked")
    signed = repository.commit(gpg=revoked)
    gpg.revoke(revoked)
    with gpg.at("20200101T000000!"):
        old = gpg.make("old", expires="1y")
        signed_then = repository.commit(gpg=old)
    keys = gpg.export(tmp_path / "keys", old, revoked)
    told = refused(repository, signed, "gpg", gpg_keyring_file=keys)
    assert f"signed by revoked <revoked@example.org> with the key {revoked[-16:]}, which is revoked" in told
    told = refused(repository, signed_then, "gpg", gpg_keyring_file=keys)
    assert f"signed by old <old@example.org> with the key {old[-16:]}, which has expired" in told


@pytest.mark.parametrize("mode", ["gpg", "ssh", "any"])
def test_what_was_changed_after_it_was_signed_is_refused(
    repository: Repository, gpg: Gpg, alice: str, tmp_path: Path, mode: str
) -> None:
    private, public = ssh_key(tmp_path, "key")
    (tmp_path / "signers").write_text(f"carol@example.org {public}\n")
    signed = repository.commit(ssh=private) if mode == "ssh" else repository.commit(gpg=alice)
    keys = gpg.export(tmp_path / "keys", alice)
    trusted = {"gpg_keyring_file": keys, "allowed_signers_file": str(tmp_path / "signers")}
    verify(repository, signed, mode, **trusted)
    assert refused(repository, repository.forge(signed), mode, **trusted).endswith("the signature is bad")


def test_a_commit_signed_by_an_allowed_ssh_key_is_good(
    repository: Repository, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    private, public = ssh_key(tmp_path, "key")
    (tmp_path / "signers").write_text(f'carol@example.org namespaces="git" {public}\n')
    signed = repository.commit(ssh=private)
    verify(repository, signed, "ssh", allowed_signers_file=str(tmp_path / "signers"))
    assert "carol@example.org with ED25519 key SHA256:" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("", "with the ED25519 key SHA256:{}, which --allowed-signers-file does not hold"),
        ('carol namespaces="file" {public}', "a key that --allowed-signers-file does not allow for git"),
        ('carol valid-before="20200101" {public}', "a key that --allowed-signers-file has no longer: verify time"),
        ('carol valid-after="21000101" {public}', "a key that --allowed-signers-file does not have yet: verify time"),
    ],
)
def test_an_ssh_key_that_is_not_allowed_is_refused(
    repository: Repository, tmp_path: Path, line: str, told: str
) -> None:
    private, public = ssh_key(tmp_path, "key")
    (tmp_path / "signers").write_text(line.format(public=public) + "\n")
    said = refused(repository, repository.commit(ssh=private), "ssh", allowed_signers_file=str(tmp_path / "signers"))
    assert told.partition("{}")[0] in said
    assert told.rpartition("{}")[2] in said


def test_a_commit_that_nobody_signed_is_refused(repository: Repository, gpg: Gpg, alice: str, tmp_path: Path) -> None:
    (tmp_path / "signers").touch()
    trusted = {
        "gpg_keyring_file": gpg.export(tmp_path / "keys", alice),
        "allowed_signers_file": str(tmp_path / "signers"),
    }
    plain = repository.commit()
    for mode in ("gpg", "ssh", "any"):
        assert refused(repository, plain, mode, **trusted) == f"commit {plain} is not published: nobody has signed it"
    verify(repository, plain, "off")


def test_a_good_signature_of_the_other_kind_is_refused(
    repository: Repository, gpg: Gpg, alice: str, tmp_path: Path
) -> None:
    private, public = ssh_key(tmp_path, "key")
    (tmp_path / "signers").write_text(f"carol@example.org {public}\n")
    trusted = {
        "gpg_keyring_file": gpg.export(tmp_path / "keys", alice),
        "allowed_signers_file": str(tmp_path / "signers"),
    }
    for hash, mode in ((repository.commit(gpg=alice), "ssh"), (repository.commit(ssh=private), "gpg")):
        told = refused(repository, hash, mode, **trusted)
        assert told.endswith(f"it is signed, but not as --verify-signatures={mode} wants")
        verify(repository, hash, "any", **trusted)


def test_configuration_of_the_repository_does_not_decide_whom_to_trust(repository: Repository, tmp_path: Path) -> None:
    private, public = ssh_key(tmp_path, "key")
    (tmp_path / "theirs").write_text(f"mallory {public}\n")
    (tmp_path / "ours").touch()
    signed = repository.commit(ssh=private)
    repository.git("config", "gpg.ssh.allowedSignersFile", str(tmp_path / "theirs"))
    repository.git("config", "gpg.ssh.program", "true")
    repository.git("config", "gpg.program", "true")
    assert "does not hold" in refused(repository, signed, "ssh", allowed_signers_file=str(tmp_path / "ours"))


def test_a_signed_tag_vouches_for_its_commit(tmp_path: Path, repository: Repository) -> None:
    trusted = tag_trusted(repository, tmp_path)
    commit = repository.commit()
    repository.tag("v1", ssh=str(tmp_path / "key"))
    repository.git("fetch", "-q", ".", "refs/tags/v1")
    for ref in ("v1", "tags/v1", "refs/tags/v1"):
        verify(repository, commit, "ssh", ref=ref, **trusted)
    repository.git("worktree", "add", "-q", "--detach", str(tmp_path / "worktree"), commit)
    chosen = Settings(repo="x", root="/x", ref="v1", verify_signatures="ssh", **trusted)  # type: ignore[arg-type]
    Signatures(chosen, Git()).verify(commit, str(tmp_path / "worktree"))


def test_a_signed_tag_vouches_for_no_other_commit(tmp_path: Path, repository: Repository) -> None:
    trusted = tag_trusted(repository, tmp_path)
    repository.commit()
    repository.tag("v1", ssh=str(tmp_path / "key"))
    repository.git("fetch", "-q", ".", "refs/tags/v1")
    assert "nobody has signed it" in refused(repository, repository.commit(), "ssh", ref="v1", **trusted)


def test_a_signed_tag_does_not_pass_under_another_name(tmp_path: Path, repository: Repository) -> None:
    trusted = tag_trusted(repository, tmp_path)
    commit = repository.commit()
    repository.git("update-ref", "refs/tags/v2", repository.tag("v1", ssh=str(tmp_path / "key")))
    repository.git("fetch", "-q", ".", "refs/tags/v2")
    told = refused(repository, commit, "ssh", ref="v2", **trusted)
    assert told == "the tag at v2 was signed as 'v1': it is not published"


def test_an_unsigned_tag_of_an_unsigned_commit_is_refused_for_both(tmp_path: Path, repository: Repository) -> None:
    trusted = tag_trusted(repository, tmp_path)
    commit = repository.commit()
    tag = repository.tag("v1")
    repository.git("fetch", "-q", ".", "refs/tags/v1")
    told = refused(repository, commit, "ssh", ref="v1", **trusted)
    assert told.startswith(f"commit {commit} is not published: nobody has signed it; tag {tag} is not published: ")


def tag_trusted(repository: Repository, directory: Path) -> dict[str, str]:
    _, public = ssh_key(directory, "key")
    (directory / "signers").write_text(f"carol@example.org {public}\n")
    return {"allowed_signers_file": str(directory / "signers")}


def test_a_tag_that_is_signed_passes_a_commit_that_is_signed_by_nobody_known(
    repository: Repository, tmp_path: Path
) -> None:
    trusted = tag_trusted(repository, tmp_path)
    stranger, _ = ssh_key(tmp_path, "stranger")
    commit = repository.commit(ssh=stranger)
    repository.tag("v1", ssh=str(tmp_path / "key"))
    repository.git("fetch", "-q", ".", "refs/tags/v1")
    verify(repository, commit, "ssh", ref="v1", **trusted)


@pytest.mark.parametrize("given", ["allowed_signers_file", "gpg_keyring_file"])
def test_a_file_that_cannot_be_read_is_named(repository: Repository, gpg: Gpg, tmp_path: Path, given: str) -> None:
    flag = "--" + given.replace("_", "-")
    mode = "ssh" if "signers" in given else "gpg"
    told = refused(repository, repository.commit(), mode, **{given: str(tmp_path / "absent")})
    assert told.startswith(f"cannot read {flag} {tmp_path}/absent")


def test_keys_in_a_file_of_another_kind_are_refused(repository: Repository, gpg: Gpg, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----\n")
    told = refused(repository, repository.commit(), "gpg", gpg_keyring_file=str(tmp_path / "keys"))
    assert "no public key block; give what gpg --export wrote" in told


def test_nothing_is_left_behind(
    repository: Repository, gpg: Gpg, alice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    keys = gpg.export(tmp_path / "keys", alice)
    verify(repository, repository.commit(gpg=alice), "gpg", gpg_keyring_file=keys)
    refused(repository, repository.commit(), "gpg", gpg_keyring_file=keys)
    assert os.listdir(tmp_path / "tmp") == []


def test_armor_is_taken_off_each_block() -> None:
    block = (
        "-----BEGIN PGP PUBLIC KEY BLOCK-----\nComment: x\n\nYWJj\nZGVm\n=abcd\n-----END PGP PUBLIC KEY BLOCK-----\n"
    )
    assert keyring((block + "\n" + block.replace("Comment: x\n", "")).encode()) == b"abcdefabcdef"
    assert keyring(block.replace("\n", "\r\n").encode()) == b"abcdef"
    assert keyring(b"\x99binary") == b"\x99binary"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("", "nobody has signed it"),
        ("[GNUPG:] EXPSIG 0D15 A B <a@b>\n", "the signature of A B <a@b> (key 0D15) has expired"),
        ("[GNUPG:] ERRSIG 0D15 22 8 00 1 9 -\n", "the signature with the key 0D15 cannot be checked"),
        ("No user exists for uid 12345\r\n", "ssh-keygen says: No user exists for uid 12345; give --add-user"),
        ("warning: x\nerror: something else\n", "git says: error: something else"),
    ],
)
def test_what_verifiers_say_is_told_in_plain_words(said: str, told: str) -> None:
    assert verdict(said, "any") == told
