"""As whom the upstream knows the application: credentials from files, put into each request as it is sent."""

from __future__ import annotations

from typing import Protocol

from sidecars.ambassador.http.request import Headers
from sidecars.ambassador.http.settings import Credential
from sidecars.core.errors import SidecarError


class Unavailable(SidecarError):  # noqa: N818  (named for what is so)
    """There is no credential now; the text says why, never what: the request is answered 502, rule "credential"."""


class Signer(Protocol):
    """What puts a credential into a request.

    needs_body  the whole body is to be given to sign(): b"" when there is none. Else None may be given.
    """

    needs_body: bool

    def sign(
        self, method: str, scheme: str, authority: str, target: bytes, headers: Headers, body: bytes | None
    ) -> Headers:
        """Give the headers with the credential; what the client has put in its place is taken out.

        To be called last, with the head as it is sent: the target in origin form with the upstream's base path,
        `authority` as in Host, which `headers` has too. A new try is signed anew. Raises Unavailable.
        """


def signer(credential: Credential | None) -> Signer | None:
    """Give what puts this credential into requests; None where there is nothing to put."""
    if credential is None:
        return None
    if credential.sigv4:
        from sidecars.ambassador.http.credentials.sigv4 import SigV4Signer  # botocore, where it is wanted only

        return SigV4Signer(credential.sigv4)
    if credential.hmac:
        from sidecars.ambassador.http.credentials.hmac import BodySigner, MessageSigner

        return (
            MessageSigner(credential.hmac)
            if credential.hmac.style == "message-signature"
            else BodySigner(credential.hmac)
        )
    from sidecars.ambassador.http.credentials.keys import HeaderSigner

    return HeaderSigner.of(credential)


def without(headers: Headers, *names: bytes) -> Headers:
    """Give the headers without those of these names, which are in small letters; with _ for - they go too.

    Frameworks that make variables of headers take both for one, and a client's would stand beside ours.
    """
    return [each for each in headers if each[0].lower().replace(b"_", b"-") not in names]
