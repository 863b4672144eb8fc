"""What is found wrong with HTTP mode at the start, and before a reload: in files, and in who could come."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from sidecars.ambassador.http import users
from sidecars.ambassador.http.settings import Auth
from sidecars.ambassador.settings import Listener
from sidecars.core.errors import WrongSettings
from sidecars.core.units import Secret

if TYPE_CHECKING:
    from sidecars.ambassador.http.jwt import Key


def check(every: Iterable[Listener], allow_public: bool) -> None:
    """Check what is found in files, and that credentials are only lent to who is here; WrongSettings."""
    for one in every:
        if one.http is None:
            continue
        if one.http.credential and not allow_public and not _near(one.listen):
            raise WrongSettings(
                f"{one.listen} is reached from other machines, and its http has a credential, which would serve all of "
                "them; listen on :PORT, which is loopback, or give --allow-public"
            )
        if one.http.auth:
            _read(f"{one.listen}: http.auth", one.http.auth)


def _near(listen: str) -> bool:
    if listen.startswith("/"):
        return True
    host = listen.rpartition(":")[0].strip("[]")
    return host in ("", "localhost", "::1") or re.fullmatch(r"127(\.\d+){3}", host) is not None


def _read(place: str, rule: Auth) -> None:
    """Read what is in files once: what is wrong in them is said at the start, and before a reload."""
    if rule.api_keys:
        _made(f"{place}.api_keys.keys", rule.api_keys.keys, users.keys)
    if rule.basic:
        _made(f"{place}.basic.users", rule.basic.users, users.passwords)
    if rule.bearer:
        _made(f"{place}.bearer.tokens", rule.bearer.tokens, users.tokens)
    if rule.jwt and rule.jwt.jwks_ca:
        _trusted(f"{place}.jwt.jwks_ca", rule.jwt.jwks_ca)
    if rule.jwt and (rule.jwt.secret or rule.jwt.keys):
        from sidecars.ambassador.http import jwt

        if rule.jwt.secret:
            _made(f"{place}.jwt.secret", rule.jwt.secret, lambda text: _long(rule, jwt.shared(text)))
        else:
            _made(f"{place}.jwt.keys", Secret(file=rule.jwt.keys), jwt.in_file)


def _trusted(place: str, file: str) -> None:
    import ssl

    try:
        ssl.create_default_context(cafile=file)
    except OSError as error:
        reason = error.strerror if error.errno and not isinstance(error, ssl.SSLError) else "it has no certificate"
        raise WrongSettings(f"{place} is {file!r}, which cannot be used: {reason}") from None


def _long(rule: Auth, keys: Sequence[Key]) -> None:
    wanted = rule.jwt.algorithms if rule.jwt else ()
    if missing := [each for each in wanted if not any(each in key.algorithms for key in keys)]:
        raise ValueError(f"is too short for {missing[0]} (RFC 7518)")


def _made(place: str, secret: Secret, make: Callable[[str], object]) -> None:
    try:
        make(secret.reveal())
    except ValueError as error:
        where = f", in {secret.file}," if secret.file else ""
        raise WrongSettings(f"{place}{where} {error}") from None
