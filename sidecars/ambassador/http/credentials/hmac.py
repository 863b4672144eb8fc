"""Signatures with a shared key: of the whole request, as RFC 9421 says, or of the body, as webhooks have it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from email.utils import formatdate

from sidecars.ambassador.http.credentials import Unavailable, without
from sidecars.ambassador.http.renewing import Renewed
from sidecars.ambassador.http.request import Headers
from sidecars.ambassador.http.settings import HmacCredential

# What is signed, in this order: a changed body, target or host is found out, and so is an old request.
COMPONENTS = ("@method", "@authority", "@path", "@query", "date", "content-digest")
_PORTS = {"http": ":80", "https": ":443"}


def _key(text: str) -> bytes:
    # A newline at the end is the editor's; Secret has taken it away.
    if not text:
        raise ValueError("is empty")
    return text.encode()


class _Signer:
    needs_body = True

    def __init__(self, settings: HmacCredential) -> None:
        self._settings = settings
        self._secret: Renewed[bytes] = Renewed(settings.key, _key, b"")

    def _key(self) -> bytes:
        key = self._secret.get()
        if not key:
            raise Unavailable("the key cannot be read, or is empty")
        return key


class BodySigner(_Signer):
    """sha256=HEX of the body: GitHub's form, which most webhooks have taken over."""

    def sign(
        self, method: str, scheme: str, authority: str, target: bytes, headers: Headers, body: bytes | None
    ) -> Headers:
        """Give the headers with the signature. Raises Unavailable."""
        header = self._settings.header
        signature = b"sha256=" + hmac.new(self._key(), body or b"", hashlib.sha256).hexdigest().encode()
        return [*without(headers, header.lower().replace("_", "-").encode()), (header.encode(), signature)]


class MessageSigner(_Signer):
    """HTTP Message Signatures with hmac-sha256. Sources: RFC 9421; RFC 9530 for the digest of the body."""

    def sign(
        self, method: str, scheme: str, authority: str, target: bytes, headers: Headers, body: bytes | None
    ) -> Headers:
        """Give the headers with Date, Content-Digest, Signature-Input and Signature. Raises Unavailable."""
        key, now = self._key(), int(time.time())
        date, digest = formatdate(now, usegmt=True).encode(), digest_of(body or b"")
        path, _, query = target.partition(b"?")
        values = {
            "@method": method.encode(),
            "@authority": authority.lower().removesuffix(_PORTS.get(scheme, "")).encode(),
            "@path": path,
            "@query": b"?" + query,
            "date": date,
            "content-digest": digest,
        }
        parameters = _parameters(now, self._settings.key_id)
        signature = base64.b64encode(hmac.new(key, base(values, parameters), hashlib.sha256).digest())
        return [
            *without(headers, b"date", b"content-digest", b"signature-input", b"signature"),
            (b"Date", date),
            (b"Content-Digest", digest),
            (b"Signature-Input", b"sig1=" + parameters),
            (b"Signature", b"sig1=:" + signature + b":"),
        ]


def digest_of(body: bytes) -> bytes:
    """Give the digest of a body as Content-Digest has it."""
    return b"sha-256=:" + base64.b64encode(hashlib.sha256(body).digest()) + b":"


def _parameters(created: int, key_id: str) -> bytes:
    names = " ".join(f'"{name}"' for name in COMPONENTS)
    named = f';keyid="{key_id}"' if key_id else ""
    return f'({names});created={created}{named};alg="hmac-sha256"'.encode()


def base(values: dict[str, bytes], parameters: bytes) -> bytes:
    """Give what is signed: a line for each component, and which they are. Source: RFC 9421, section 2.5."""
    lines = [b'"%s": %s' % (name.encode(), value) for name, value in values.items()]
    return b"\n".join([*lines, b'"@signature-params": ' + parameters])
