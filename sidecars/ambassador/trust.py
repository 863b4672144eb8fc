"""Whom a certificate names, whether that is who was meant, and what a failed TLS handshake means, in words."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Sequence
from typing import Any

_SHOWN = 8  # names of a certificate that a text quotes
_LONGEST = 100  # characters of a name there: it is a stranger's text


class TlsFailed(Exception):  # noqa: N818  (named for what happened)
    """A TLS handshake failed; the text says why, for the log and the status page.

    ended  the other side has left before it said a word: a check of a port, seldom worth a line
    """

    def __init__(self, text: str, *, ended: bool = False) -> None:
        super().__init__(text)
        self.ended = ended


def names_of(certificate: dict[str, Any]) -> tuple[str, ...]:
    """List the subject's alternative names that we know how to compare: DNS names, addresses and URIs.

    The certificate is as ssl.SSLObject.getpeercert() gives it. The common name is none of them, see RFC 6125.
    """
    known = ("DNS", "IP Address", "URI")
    return tuple(str(name).strip() for kind, name in certificate.get("subjectAltName", ()) if kind in known)


def check_names(certificate: dict[str, Any], names: Sequence[str]) -> None:
    """Check that a certificate has one of the names.

        check_names(certificate, ("db.example", "spiffe://cluster.local/ns/shop/sa/cart"))

    A certificate's *.shop.example stands for one label before the rest, and so does ours; spiffe://cluster.local/ns/*
    of ours is every URI below it. Addresses are compared as numbers.

    Raises TlsFailed: "certificate is not for db.example (it names a.example, b.example)".
    """
    has = [(kind, str(name).strip()) for kind, name in certificate.get("subjectAltName", ())]
    if not any(_same(kind, name, wanted) for kind, name in has for wanted in names):
        raise TlsFailed(f"certificate is not for {' or '.join(names)} ({_named(names_of(certificate))})")


def _same(kind: str, name: str, wanted: str) -> bool:
    if "://" in wanted:
        return kind == "URI" and (name == wanted or (wanted.endswith("/*") and _below(name, wanted[:-1])))
    if (address := _as_address(wanted)) is not None:
        return kind == "IP Address" and _as_address(name) == address
    return kind == "DNS" and _same_host(name, wanted)


def _below(uri: str, prefix: str) -> bool:
    """Whether a URI is below another; one that goes up again is not."""
    return uri.startswith(prefix) and len(uri) > len(prefix) and ".." not in uri.split("/") and "%" not in uri


def _as_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return None


def _same_host(one: str, other: str) -> bool:
    """Compare two DNS names, of which either may begin with the label *."""
    one, other = one.lower().rstrip("."), other.lower().rstrip(".")
    return bool(one) and (one == other or _covers(one, other) or _covers(other, one))


def _covers(pattern: str, host: str) -> bool:
    # As OpenSSL: the star is a whole label, stands for exactly one, and never before a top-level name.
    star, _, domain = pattern.partition(".")
    label, _, rest = host.partition(".")
    return star == "*" and "." in domain and "*" not in domain and bool(label) and label != "*" and rest == domain


def _named(names: Sequence[str]) -> str:
    if not names:
        return "it names nobody"
    shown = ", ".join(name[:_LONGEST] for name in names[:_SHOWN])
    return f"it names {shown}{', ...' if len(names) > _SHOWN else ''}"


# X509_V_ERR_*, from OpenSSL's x509_vfy.h, where its own words are no help.
_VERIFICATION = {
    10: "certificate has expired",
    9: "certificate is not yet valid; is one of the clocks wrong?",
    23: "certificate is revoked",
    26: "certificate is not meant for this use",
    **dict.fromkeys((2, 18, 19, 20, 21, 27), "certificate is of an unknown authority"),
}

# Reasons of OpenSSL's SSL library. An alert is what the other side has said of us.
_REASONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "client gave no certificate",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it wants a certificate of ours; set cert",
    "TLSV1_ALERT_UNKNOWN_CA": "it refuses our certificate: unknown authority",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it refuses our certificate",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "it refuses our certificate: of a kind it does not take",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it refuses our certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it refuses our certificate: it has expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "it refuses our certificate: it is revoked",
    "TLSV1_ALERT_ACCESS_DENIED": "it refuses our certificate",
    "TLSV1_UNRECOGNIZED_NAME": "it does not know the name that was asked for; see server_name",
    **dict.fromkeys(
        ("SSLV3_ALERT_HANDSHAKE_FAILURE", "NO_SHARED_CIPHER"), "no cipher in common, or it wants a certificate of ours"
    ),
    **dict.fromkeys(
        ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "UNKNOWN_PROTOCOL"),
        "it does not speak TLS",
    ),
    **dict.fromkeys(
        ("UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION", "VERSION_TOO_LOW", "NO_PROTOCOLS_AVAILABLE"),
        "no version of TLS in common; 1.2 is the least",
    ),
}


def words(error: OSError) -> str:
    """Say what a failure of TLS means, for people."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _VERIFICATION.get(error.verify_code, f"certificate is not trusted: {error.verify_message}")
    if isinstance(error, ssl.SSLError):
        reason = error.reason or ""
        return _REASONS.get(reason) or reason.lower().replace("_", " ") or "broken TLS"
    return error.strerror or str(error) or type(error).__name__
