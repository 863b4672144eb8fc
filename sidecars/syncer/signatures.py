"""Who has signed a commit, and whether that key may sign: asked of git before a revision is published."""

from __future__ import annotations

import binascii
import contextlib
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator

from sidecars.core.errors import SidecarError
from sidecars.core.git import Git, Output
from sidecars.core.log import log
from sidecars.syncer.settings import Settings

_NONE = "/nonexistent"  # a program that verifies nothing: for the formats that are not wanted
_FETCHED = "main-worktree/FETCH_HEAD"  # what the ref is; the worktrees have a FETCH_HEAD of their own
_ARMOR = re.compile(
    rb"-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n(?:[^\r\n]+\r?\n)*\r?\n(.*?)(?:^=.{4}\s*)?-----END", re.S | re.M
)
# gpgv knows no option of gpg's that git gives; the last two words are the signature's file and "-".
_WRAPPER = """#!/bin/sh
while [ $# -gt 2 ]; do shift; done
exec gpgv --status-fd=1 --homedir={0} --keyring={0}/keyring -- "$1" "$2"
"""

_UNSIGNED = "nobody has signed it"
# What is told of a signature, by what gpgv and ssh-keygen say; the first that matches counts.
# Source: gnupg, doc/DETAILS, "Format of the status fd output"; openssh, ssh-keygen.c and sshsig.c.
_VERDICTS = tuple(
    (re.compile(pattern, re.M), verdict)
    for pattern, verdict in (
        (r"^\[GNUPG:\] BADSIG (\S+) (.*)$", "it is not what {1} (key {0}) has signed: the signature is bad"),
        (r"^\[GNUPG:\] REVKEYSIG (\S+) (.*)$", "it is signed by {1} with the key {0}, which is revoked"),
        (r"^\[GNUPG:\] EXPKEYSIG (\S+) (.*)$", "it is signed by {1} with the key {0}, which has expired"),
        (r"^\[GNUPG:\] EXPSIG (\S+) (.*)$", "the signature of {1} (key {0}) has expired"),
        (r"^\[GNUPG:\] NO_PUBKEY (\S+)$", "it is signed with the key {0}, which --gpg-keyring-file does not hold"),
        (r"^\[GNUPG:\] ERRSIG (\S+)", "the signature with the key {0} cannot be checked"),
        (r"^Signature verification failed: incorrect signature", "it is not what was signed: the signature is bad"),
        (r"^(No user exists for uid \d+)", "ssh-keygen says: {0}; give --add-user"),
        (r"key has expired: (.*)$", "it is signed with a key that --allowed-signers-file has no longer: {0}"),
        (r"key is not yet valid: (.*)$", "it is signed with a key that --allowed-signers-file does not have yet: {0}"),
        (
            r"key is not permitted for use in signature namespace",
            "it is signed with a key that --allowed-signers-file does not allow for git: its namespaces lack it",
        ),
        (r'^Good "git" signature with (.*)$', "it is signed with the {0}, which --allowed-signers-file does not hold"),
        (rf"cannot run {_NONE}", "it is signed, but not as --verify-signatures={mode} wants"),
    )
)
_GOOD = re.compile(r'^\[GNUPG:\] GOODSIG (?P<key>\S+) (?P<gpg>.*)$|^Good "git" signature for (?P<ssh>.*)$', re.M)


class NotTrusted(SidecarError):  # noqa: N818
    """A revision is not to be published: nobody has signed it, or nobody who may."""


class Signatures:
    """Verifies commits by --verify-signatures; does nothing where that is off."""

    def __init__(self, settings: Settings, git: Git) -> None:
        self._settings = settings
        self._git = git

    def verify(self, hash: str, cwd: str, deadline: float | None = None) -> None:
        """Return if a known key has signed the commit, or the annotated tag that the ref is.

        Blocking. Raises NotTrusted, which says who has signed, or that nobody has; SidecarError for a file that cannot
        be read; GitFailed; TimedOut.
        """
        if self._settings.verify_signatures == "off":
            return
        with self._trusting() as (config, environment):

            def run(*words: str, input: bytes | None = None, ok: tuple[int, ...] = (0,)) -> Output:
                return self._git.run(
                    *words, cwd=cwd, deadline=deadline, input=input, ok=ok, config=config, environment=environment
                )

            said = run("verify-commit", "--raw", "--end-of-options", hash, ok=(0, 1))
            problems = self._problems(said, hash, "commit")
            tag = _tag(run("cat-file", "--batch-check", input=f"{_FETCHED}\n{_FETCHED}^{{}}\n".encode()).text, hash)
            if problems and tag:
                self._check_name(run("cat-file", "tag", tag).text)
                problems += self._problems(run("verify-tag", "--raw", tag, ok=(0, 1)), tag, "tag")
                problems = problems if len(problems) > 1 else []
        if problems:
            raise NotTrusted("; ".join(problems))

    def _problems(self, said: Output, hash: str, kind: str) -> list[str]:
        text = said.stderr.decode(errors="replace")
        if said.code == 0 and (good := _GOOD.search(text)):
            signer = good["ssh"] or f"{good['gpg']} with the key {good['key']}"
            log.info("signature verified", hash=hash, kind=kind, signer=signer)
            return []
        return [f"{kind} {hash} is not published: {verdict(text, self._settings.verify_signatures)}"]

    def _check_name(self, tag: str) -> None:
        """Refuse a tag that was signed under another name: an old one, put in the place of a new one."""
        name = next((line[4:] for line in tag.splitlines() if line.startswith("tag ")), "")
        ref = self._settings.ref
        if name not in (ref, ref.removeprefix("tags/"), ref.removeprefix("refs/tags/")):
            raise NotTrusted(f"the tag at {ref} was signed as {name[:200]!r}: it is not published")

    @contextlib.contextmanager
    def _trusting(self) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
        """Give configuration and variables with which git trusts the files that are set, and no other key."""
        mode = self._settings.verify_signatures
        config = {"safe.directory": "*", "gpg.x509.program": _NONE, "gpg.program": _NONE, "gpg.openpgp.program": _NONE}
        config |= {"gpg.ssh.program": _NONE, "gpg.ssh.allowedSignersFile": os.devnull, "gpg.minTrustLevel": "undefined"}
        with tempfile.TemporaryDirectory(prefix="git-syncer.keys.") as home:  # its mode is 0700
            if mode in ("gpg", "any"):
                program = _verifier(self._settings.gpg_keyring_file, home)
                config |= {"gpg.program": program, "gpg.openpgp.program": program}
            if mode in ("ssh", "any"):
                signers = os.path.abspath(self._settings.allowed_signers_file)
                if not os.access(signers, os.R_OK):
                    raise SidecarError(
                        f"cannot read --allowed-signers-file {signers}; see ALLOWED SIGNERS in ssh-keygen(1)"
                    )
                config |= {"gpg.ssh.program": "ssh-keygen", "gpg.ssh.allowedSignersFile": signers}
            yield config, {"GNUPGHOME": home, "GIT_NO_REPLACE_OBJECTS": "1"}


def verdict(text: str, mode: str) -> str:
    """Say what is wrong with a signature that was not verified, by what git's verifiers said."""
    for pattern, told in _VERDICTS:
        if match := pattern.search(text):
            return told.format(*match.groups(), mode=mode)
    lines = text.strip().splitlines()
    return f"git says: {lines[-1][:300]}" if lines else _UNSIGNED


def keyring(data: bytes) -> bytes:
    """Give OpenPGP keys as gpgv reads them: what `gpg --export --armor` wrote loses its armor. Raises ValueError.

    Source: RFC 4880, section 6.2.
    """
    if not data.lstrip().startswith(b"-----BEGIN"):
        return data
    blocks = _ARMOR.findall(data)
    if not blocks:
        raise ValueError("no public key block")
    return b"".join(binascii.a2b_base64(block) for block in blocks)


def _verifier(file: str, home: str) -> str:
    """Make a gpg for git in the directory: it verifies by gpgv, against the keys of the file and no others."""
    if shutil.which("gpgv") is None:
        raise SidecarError("--verify-signatures needs the program gpgv, which is not installed")
    try:
        with open(file, "rb") as opened:
            keys = keyring(opened.read())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SidecarError(f"cannot read --gpg-keyring-file {file}: {reason}; give what gpg --export wrote") from None
    with open(os.path.join(home, "keyring"), "wb") as written:
        written.write(keys)
    program = os.path.join(home, "gpg")
    with open(program, "w", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o700)) as script:
        script.write(_WRAPPER.format(shlex.quote(home)))
    return program


def _tag(told: str, hash: str) -> str:
    """Give the tag that was fetched, if it is one and points to the commit; nothing else.

    The text is of git cat-file --batch-check: "7f3a... tag 140", and on the next line what it points to in the end.
    """
    match [line.split(" ") for line in told.splitlines()]:
        case [[tag, "tag", _], [commit, "commit", _]] if commit == hash:
            return tag
    return ""
