"""TLS of listeners and towards upstreams: contexts made of files, made again when the files change."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterable

from sidecars.ambassador.handshake import POSTGRES, Handshake
from sidecars.ambassador.loop import Loop
from sidecars.ambassador.secured import Secured
from sidecars.ambassador.settings import ClientTls, Listener, ServerTls
from sidecars.ambassador.trust import TlsFailed, check_names, names_of
from sidecars.core.errors import WrongSettings
from sidecars.core.log import log

__all__ = [
    "POSTGRES", "Handshake", "Secured", "TlsFailed", "check", "check_names", "client_context", "look", "names_of",
    "originate", "server_context", "terminate", "upstream_host", "use", "used_by",
]  # fmt: skip

LOOK = 1.0  # seconds between two looks at the files
OFF = "off"  # the server_name that asks for none


def originate(
    loop: Loop,
    sock: socket.socket,
    tls: ClientTls,
    host: str | None,
    *,
    timeout: float | None,
    done: Callable[[Secured | TlsFailed], None],
) -> Handshake:
    """Speak TLS to an upstream on a connected socket; the host is as upstream_host() gives it.

    Raises WrongSettings where the files have become of no use before they were ever read.
    """
    name = None if tls.server_name == OFF else tls.server_name or host
    names = (tls.names or ((name,) if name else ())) if tls.verify else ()
    return Handshake(
        loop,
        sock,
        client_context(tls),
        server_side=False,
        server_name=name,
        names=names,
        asking=POSTGRES if tls.starttls else None,
        timeout=timeout,
        done=done,
    )


def terminate(
    loop: Loop,
    sock: socket.socket,
    tls: ServerTls,
    *,
    timeout: float | None,
    done: Callable[[Secured | TlsFailed], None],
) -> Handshake:
    """Speak TLS to a client on an accepted socket. Raises WrongSettings as originate() does."""
    return Handshake(loop, sock, server_context(tls), server_side=True, names=tls.names, timeout=timeout, done=done)


def upstream_host(address: str) -> str | None:
    """Give the host by which an upstream's certificate is checked where nothing else is said.

    "db.shop:5432" -> "db.shop"     "[2001:db8::1]:5432" -> "2001:db8::1"     "/run/db.sock" -> None
    "srv://_redis._tcp.cache.shop" -> "cache.shop": the domain that was asked, as RFC 6125 has it
    """
    if address.startswith("/"):
        return None
    if address.startswith("srv://"):
        labels = address.removeprefix("srv://").rstrip("./").split(".")
        return ".".join(label for label in labels if not label.startswith("_"))
    host = address.rpartition(":")[0] or address
    return host.strip("[]").rstrip(".")


class _Kept:
    """A context, and what its files looked like when they were read last."""

    def __init__(self, tls: ClientTls | ServerTls) -> None:
        # Before the files are read: a change meanwhile is seen by the next look.
        self.seen = _fingerprint(tls)
        self.context = _make(tls)


_contexts: dict[ClientTls | ServerTls, _Kept] = {}
_making = threading.Lock()
_renewal: threading.Thread | None = None


def client_context(tls: ClientTls) -> ssl.SSLContext:
    """Give the context to speak to an upstream with: made at the first call, and renewed when its files change."""
    return _context(tls)


def server_context(tls: ServerTls) -> ssl.SSLContext:
    """Give the context to speak to clients with: made at the first call, and renewed when its files change."""
    return _context(tls)


def _context(tls: ClientTls | ServerTls) -> ssl.SSLContext:
    kept = _contexts.get(tls)
    if kept is None:
        kept = _contexts[tls] = _Kept(tls)
    # A thread does not survive a fork.
    if _renewal is None or not _renewal.is_alive():
        _start_renewal()
    return kept.context


def use(listeners: Iterable[Listener]) -> None:
    """Make the contexts of the listeners that are in force, and forget the others.

    One whose files have become of no use is said; its connections fail until they are well again.
    """
    wanted: set[ClientTls | ServerTls] = {tls for listener in listeners for tls in used_by(listener)}
    for gone in _contexts.keys() - wanted:
        _contexts.pop(gone, None)
    for tls in wanted:
        try:
            _context(tls)
        except WrongSettings as error:
            log.error("no TLS", error=str(error))


def used_by(listener: Listener) -> list[ClientTls | ServerTls]:
    """List what a listener says of TLS, towards its clients and its upstreams."""
    return [tls for tls in (listener.tls, *(upstream.tls for upstream in listener.upstreams)) if tls]


def _start_renewal() -> None:
    global _renewal
    _renewal = threading.Thread(target=_look_on, name="certificates", daemon=True)
    _renewal.start()


def _look_on() -> None:
    pause = threading.Event()
    while not pause.wait(LOOK):
        look()


def look() -> None:
    """Renew the contexts whose files have changed; one that cannot be made is said once, and the old one stays.

    It reads files: for a thread.
    """
    with _making:
        for tls, kept in list(_contexts.items()):
            seen = _fingerprint(tls)
            if seen == kept.seen:
                continue
            kept.seen = seen
            try:
                kept.context = _make(tls)
            except WrongSettings as error:
                log.warning("new certificate is of no use, the old one stays in force", error=str(error))
            else:
                log.info("certificate renewed", files=_files(tls))


def _files(tls: ClientTls | ServerTls) -> list[str]:
    ca = tls.ca if isinstance(tls, ClientTls) else tls.client_ca
    return [path for path in (ca, tls.cert, tls.cert_key) if path]


def _fingerprint(tls: ClientTls | ServerTls) -> list[tuple[int, int, int, int] | None]:
    """Say which files they are: those behind the links, for kubelet swaps a link to their directory."""
    return [_identity(path) for path in _files(tls)]


def _identity(path: str) -> tuple[int, int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def _make(tls: ClientTls | ServerTls) -> ssl.SSLContext:
    made = _make_client(tls) if isinstance(tls, ClientTls) else _make_server(tls)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    # A renegotiation would make a read wait for a write. TLS 1.3 has none.
    made.options |= ssl.OP_NO_RENEGOTIATION
    if tls.alpn:
        made.set_alpn_protocols(tls.alpn)
    if tls.cert:
        _load_pair(made, tls.cert, tls.cert_key)
    return made


def _make_client(tls: ClientTls) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Names are compared by trust.check_names(): it knows URIs, and an error can say whom the certificate does name.
    made.check_hostname = False
    if not tls.verify:
        made.verify_mode = ssl.CERT_NONE
    elif tls.ca:
        _trust(made, tls.ca)
    else:
        made.load_default_certs()
    return made


def _make_server(tls: ServerTls) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # A client that only writes and then closes has not read its session tickets: its kernel would answer with a reset,
    # and what it wrote last could be lost. Connections to an ambassador are long, or cheap to make anew.
    made.num_tickets = 0
    if tls.client_ca:
        made.verify_mode = ssl.CERT_REQUIRED
        _trust(made, tls.client_ca)
    return made


def _trust(context: ssl.SSLContext, path: str) -> None:
    if b"CERTIFICATE-----" not in _read(path):
        raise WrongSettings(
            f"{path} holds no certificate in PEM form; give the authority's, -----BEGIN CERTIFICATE-----"
        )
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise WrongSettings(f"{path} is of no use: {error.reason or error}; is it PEM, and whole?") from error
    # What the file holds is trusted, be it a root, an authority below one, or the one certificate itself.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN


def _load_pair(context: ssl.SSLContext, cert: str, cert_key: str | None) -> None:
    if b"CERTIFICATE-----" not in _read(cert):
        raise WrongSettings(f"{cert} holds no certificate in PEM form; give one, with its chain")
    key = _read(cert_key or cert)
    if b"PRIVATE KEY-----" not in key:
        advice = "is it the right file, and PEM?" if cert_key else "give its file as cert_key"
        raise WrongSettings(f"{cert_key or cert} holds no private key; {advice}")
    if b"ENCRYPTED" in key:
        raise WrongSettings(
            f"the key in {cert_key or cert} is encrypted, and nobody is here to type the words; give a plain one"
        )
    try:
        context.load_cert_chain(cert, cert_key)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise WrongSettings(
                f"the key in {cert_key or cert} is not that of the certificate in {cert}; give a pair"
            ) from error
        raise WrongSettings(
            f"{cert} or its key is of no use: {error.reason or error}; are they PEM, and whole?"
        ) from error


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise WrongSettings(
            f"{path} cannot be read: {error.strerror}; is it mounted, and may this user read it?"
        ) from error


def check(listener: Listener) -> None:
    """Find what is wrong with a listener's TLS before it is used: at the start, and before a reload. It reads files.

    Raises WrongSettings, with the setting's place, the file and what to do.
    """
    if listener.tls:
        _check_one(f"{listener.listen}: tls", listener.tls)
    for upstream in listener.upstreams:
        if upstream.tls:
            where = f"{listener.listen}: tls to {upstream.address}"
            if _nameless(upstream.tls, upstream.address):
                raise WrongSettings(
                    f"{where}: there is no host to check; set server_name or names, or server_name: off"
                )
            _check_one(where, upstream.tls)


def _check_one(where: str, tls: ClientTls | ServerTls) -> None:
    try:
        _make(tls)
    except WrongSettings as error:
        raise WrongSettings(f"{where}: {error}") from error


def _nameless(tls: ClientTls, address: str) -> bool:
    return tls.verify and not (tls.names or tls.server_name or upstream_host(address))
