import asyncio
import contextlib
import errno
import hashlib
import os
import socket
import ssl
import subprocess
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog.testing

from sidecars.ambassador import tls
from sidecars.ambassador.loop import READ, Loop
from sidecars.ambassador.settings import ClientTls, Listener, ServerTls, Upstream
from sidecars.ambassador.tls import Secured, TlsFailed, check_names, names_of, upstream_host
from sidecars.core.errors import WrongSettings
from tests.unit.ambassador.certificates import Files, Secret

PATIENCE = 30
PIECE = os.urandom(65536)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.run_until_complete(made.shutdown_default_executor())
    made.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    with near, far:
        for each in (near, far):
            each.setblocking(False)
        yield near, far


async def shake(loop: Loop, sock: socket.socket, settings: ClientTls | ServerTls, timeout: float = PATIENCE):
    """One side's handshake: what it comes to."""
    done: asyncio.Future[Secured | TlsFailed] = loop.create_future()
    tell = lambda outcome: loop.soon(done.set_result, outcome)  # noqa: E731
    if isinstance(settings, ClientTls):
        tls.originate(loop, sock, settings, "db.example", timeout=timeout, done=tell)
    else:
        tls.terminate(loop, sock, settings, timeout=timeout, done=tell)
    outcome = await done
    if isinstance(outcome, TlsFailed):
        sock.close()
    return outcome


def shaken(loop: Loop, pair, client: ClientTls, server: ServerTls):
    async def both():
        return await asyncio.gather(shake(loop, pair[0], client), shake(loop, pair[1], server))

    return loop.run_until_complete(asyncio.wait_for(both(), PATIENCE))


class Flow:
    """What carries bytes over a Secured as the relay does: it goes on until it would block, and waits for an event."""

    def __init__(self, loop: Loop, secured: Secured, size: int = 65536, outgoing: bytes = b"", end: bool = True):
        self.loop, self.secured, self.size, self.end = loop, secured, size, end
        self.left = memoryview(outgoing)
        self.buffer = bytearray(size)
        self.received = hashlib.sha256()
        self.count = 0
        self.over = loop.create_future()
        self.error: OSError | None = None
        loop.watch(secured.fileno(), self.happened)

    def happened(self, _: int) -> None:
        try:
            self.write()
            self.read()
        except OSError as error:
            self.error = error
            self.finish()

    def write(self) -> None:
        while self.left:
            try:
                self.left = self.left[self.secured.send(self.left) :]
            except BlockingIOError:
                return
        if self.end:
            self.end = False
            self.secured.shutdown(socket.SHUT_WR)

    def read(self) -> None:
        while True:
            try:
                got = self.secured.recv_into(self.buffer)
            except BlockingIOError:
                return
            if not got:
                self.finish()
                return
            self.received.update(memoryview(self.buffer)[:got])
            self.count += got

    def finish(self) -> None:
        if not self.over.done():
            self.loop.soon(lambda: self.over.done() or self.over.set_result(None))


def context_of(files: Files) -> ssl.SSLContext:
    """What an independent client trusts and shows."""
    context = ssl.create_default_context(cafile=files.ca)
    context.load_cert_chain(files.client)
    return context


@contextlib.contextmanager
def python_peer(loop: Loop, pair, files: Files, work):
    """A Secured whose other side is Python's own blocking ssl, which does `work` in a thread."""
    results: list[object] = []

    def peer() -> None:
        pair[0].settimeout(PATIENCE)
        try:
            with context_of(files).wrap_socket(
                pair[0], server_hostname="db.example", suppress_ragged_eofs=False
            ) as sock:
                results.append(work(sock))
        except (OSError, EOFError) as error:
            results.append(error)

    thread = threading.Thread(target=peer)
    thread.start()
    secured = loop.run_until_complete(shake(loop, pair[1], ServerTls(cert=files.good)))
    assert isinstance(secured, Secured), secured
    yield secured, results
    if secured.fileno() >= 0:
        loop.forget(secured.fileno())
        secured.close()
    thread.join(PATIENCE)


def until(loop: Loop, future) -> None:
    loop.run_until_complete(asyncio.wait_for(future, PATIENCE))


def arrived(sock: socket.socket, size: int) -> bytes:
    """What has come, once it is so much; it is there still."""
    deadline = time.monotonic() + PATIENCE
    got = b""
    while len(got) < size:
        assert time.monotonic() < deadline
        with contextlib.suppress(BlockingIOError):
            got = sock.recv(1_000_000, socket.MSG_PEEK)
    return got


def read_to_the_end(sock: ssl.SSLSocket) -> bytes:
    return b"".join(iter(lambda: sock.recv(65536), b""))


# The handshake, and what is said when it fails.


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_sides_know_each_other_by_the_names_of_their_certificates(loop, pair, files, version) -> None:
    client = ClientTls(ca=files.ca, cert=files.client)
    server = ServerTls(cert=files.good, client_ca=files.ca, names=("app.example",))
    tls.client_context(client).maximum_version = version
    near, far = shaken(loop, pair, client, server)
    assert near.names == ("db.example", "127.0.0.1") and far.names == ("app.example",)
    tls.use([])


def failures(files: Files):
    """Client, server, who fails, and the words."""
    good, ca = files.good, files.ca
    mutual = {"cert": good, "client_ca": ca}
    return {
        "expired": (ClientTls(ca=ca), ServerTls(cert=files.expired), 0, "certificate has expired"),
        "authority": (ClientTls(ca=ca), ServerTls(cert=files.other), 0, "certificate is of an unknown authority"),
        "system": (ClientTls(), ServerTls(cert=good), 0, "certificate is of an unknown authority"),
        "seen": (ClientTls(ca=ca), ServerTls(cert=files.other), 1, "it refuses our certificate: unknown authority"),
        "host": (
            ClientTls(ca=ca, server_name="cart.example"), ServerTls(cert=good), 0,
            "certificate is not for cart.example (it names db.example, 127.0.0.1)",
        ),
        "names": (
            ClientTls(ca=ca, names=("a.example", "spiffe://cluster/b")), ServerTls(cert=good), 0,
            "certificate is not for a.example or spiffe://cluster/b (it names db.example, 127.0.0.1)",
        ),
        "nobody": (ClientTls(ca=ca), ServerTls(**mutual), 1, "client gave no certificate"),
        "client": (
            ClientTls(ca=ca, cert=files.other), ServerTls(**mutual), 1, "certificate is of an unknown authority"
        ),
        "expired client": (ClientTls(ca=ca, cert=files.expired), ServerTls(**mutual), 1, "certificate has expired"),
        "client's name": (
            ClientTls(ca=ca, cert=files.client), ServerTls(**mutual, names=("spiffe://cluster/*",)), 1,
            "certificate is not for spiffe://cluster/* (it names app.example)",
        ),
    }  # fmt: skip


@pytest.mark.parametrize(
    "case",
    ["expired", "authority", "system", "seen", "host", "names", "nobody", "client", "expired client", "client's name"],
)
def test_a_failed_handshake_says_why_in_words(loop, pair, files, case) -> None:
    client, server, who, words = failures(files)[case]
    outcome = shaken(loop, pair, client, server)[who]
    assert isinstance(outcome, TlsFailed) and str(outcome) == words


def test_a_client_learns_after_the_handshake_that_it_needs_a_certificate(loop, pair, files) -> None:
    # With TLS 1.3 the client has done its part before the server has looked at it.
    near, far = shaken(loop, pair, ClientTls(ca=files.ca), ServerTls(cert=files.good, client_ca=files.ca))
    assert isinstance(near, Secured) and isinstance(far, TlsFailed)
    flow = Flow(loop, near, end=False)
    with structlog.testing.capture_logs() as said:
        until(loop, flow.over)
    assert "it wants a certificate of ours; set cert" in str(flow.error)
    assert [each["event"] for each in said] in ([], ["TLS connection broken"])  # now and then


@pytest.mark.parametrize(
    "client",
    [{"server_name": "off"}, {"server_name": "127.0.0.1"}, {"names": ("127.0.0.1",)}, {"names": ("no", "DB.Example")}],
)
def test_a_name_can_be_an_address_one_of_several_or_none(loop, pair, files, client) -> None:
    near, far = shaken(loop, pair, ClientTls(ca=files.ca, **client), ServerTls(cert=files.good))
    assert isinstance(near, Secured) and isinstance(far, Secured)


def test_an_upstream_that_is_not_verified_may_be_anybody(loop, pair, files) -> None:
    near, _ = shaken(loop, pair, ClientTls(verify=False), ServerTls(cert=files.expired))
    assert isinstance(near, Secured) and near.names == ()


@pytest.mark.parametrize(
    ("said", "words", "ended"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "it does not speak TLS", False),
        (b"-ERR unknown command\r\n", "it does not speak TLS", False),
        (b"\x16\x03\x01", "the connection was closed during the TLS handshake", False),
        (b"", "the connection was closed during the TLS handshake", True),
    ],
)
@pytest.mark.parametrize("server_side", [False, True])
def test_who_does_not_speak_tls_is_told_so(loop, pair, files, said, words, ended, server_side) -> None:
    pair[1].sendall(said)
    pair[1].shutdown(socket.SHUT_WR)
    settings = ServerTls(cert=files.good) if server_side else ClientTls(ca=files.ca)
    outcome = loop.run_until_complete(shake(loop, pair[0], settings))
    assert str(outcome) == words and outcome.ended is ended


def test_old_versions_are_refused_and_it_is_said(loop, pair, files) -> None:
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # Python's, of these versions
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    hello = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), hello).do_handshake()
    pair[0].sendall(hello.read())
    outcome = loop.run_until_complete(shake(loop, pair[1], ServerTls(cert=files.good)))
    assert str(outcome) == "no version of TLS in common; 1.2 is the least"


def test_a_silent_client_is_given_up_in_time(loop, pair, files) -> None:
    outcome = loop.run_until_complete(shake(loop, pair[1], ServerTls(cert=files.good), timeout=0.05))
    assert str(outcome) == "no end of the TLS handshake in time"


def test_what_follows_the_handshake_is_told_of_by_the_kernel(loop, files) -> None:
    # The client's Finished and its first bytes are there together: a unix socket delivers at once.
    pair = socket.socketpair()
    for each in pair:
        each.setblocking(False)

    def speak(near: Secured | TlsFailed) -> None:
        assert isinstance(near, Secured) and near.send(b"first") == 5

    tls.originate(loop, pair[0], ClientTls(ca=files.ca), "db.example", timeout=None, done=speak)
    far = loop.run_until_complete(asyncio.wait_for(shake(loop, pair[1], ServerTls(cert=files.good)), PATIENCE))
    told: asyncio.Future[bytes] = loop.create_future()
    loop.watch(far.fileno(), lambda event: event & READ and loop.soon(told.set_result, far.recv(100)))
    assert loop.run_until_complete(asyncio.wait_for(told, PATIENCE)) == b"first"
    for each in pair:
        loop.forget(each.fileno())
        each.close()


# Bytes.


@pytest.mark.parametrize("size", [100, 16384, 65536, 1_000_000])
def test_much_content_goes_both_ways_at_once(loop, pair, files, size) -> None:
    near, far = shaken(loop, pair, ClientTls(ca=files.ca), ServerTls(cert=files.good))
    there, back = os.urandom(100_000) * (2 if size == 100 else 60), os.urandom(70_001) * (2 if size == 100 else 60)
    flows = Flow(loop, near, size, there), Flow(loop, far, size, back)
    until(loop, asyncio.gather(*(flow.over for flow in flows)))
    assert [flow.error for flow in flows] == [None, None]
    assert flows[1].received.digest() == hashlib.sha256(there).digest() and flows[1].count == len(there)
    assert flows[0].received.digest() == hashlib.sha256(back).digest() and flows[0].count == len(back)
    assert not near.truncated and not far.truncated


def test_the_other_side_may_go_on_after_our_end(loop, pair, files) -> None:
    def stream_across_the_end(sock: ssl.SSLSocket) -> bytes:
        for _ in range(40):
            sock.sendall(PIECE)
        asked = read_to_the_end(sock)
        for _ in range(40):
            sock.sendall(PIECE)
        sock.setblocking(True)
        with contextlib.suppress(ssl.SSLError):
            sock.unwrap()
        return asked

    with python_peer(loop, pair, files, stream_across_the_end) as (secured, results):
        flow = Flow(loop, secured, size=1000, outgoing=b"all I ask", end=True)
        until(loop, flow.over)
    assert results == [b"all I ask"]
    assert flow.error is None and not secured.truncated
    assert flow.received.digest() == hashlib.sha256(PIECE * 80).digest()


def test_what_has_come_before_our_end_is_not_lost(loop, pair, files) -> None:
    near, far = shaken(loop, pair, ClientTls(ca=files.ca), ServerTls(cert=files.good))
    said = os.urandom(10_000)
    for _ in range(3):
        assert near.send(said) == len(said)
    arrived(far.sock, 3 * len(said))
    assert far.recv(3) == said[:3]  # one record is decrypted now, and the others are not
    far.shutdown(socket.SHUT_WR)
    flow = Flow(loop, far, size=7, end=False)
    near.shutdown(socket.SHUT_WR)
    until(loop, flow.over)
    assert flow.error is None and flow.received.digest() == hashlib.sha256((said * 3)[3:]).digest()
    back = Flow(loop, near)
    until(loop, back.over)
    assert (back.error, back.count) == (None, 0) and not near.truncated and not far.truncated


class Torn:
    """A socket that gives what has come, then says once that it was reset, as the kernel does, and then the end."""

    def __init__(self, content: bytes) -> None:
        self.content = [content, ConnectionResetError(errno.ECONNRESET, "reset")]

    def recv(self, size: int) -> bytes:
        got = self.content.pop(0) if self.content else b""
        if isinstance(got, OSError):
            raise got
        return got


def test_what_is_not_sent_at_once_waits_for_a_full_kernel(loop, pair, files) -> None:
    # Who is told of less than all waits for an event, and there is none while the kernel has room.
    near, _ = shaken(loop, pair, ClientTls(ca=files.ca), ServerTls(cert=files.good))
    sent = near.send(bytes(64 << 20))
    assert 100_000 < sent < 64 << 20
    assert near._cipher  # what the kernel has refused
    assert near.send(b"") == 0


def test_a_reset_is_told_after_what_came_before_it(loop, pair, files) -> None:
    near, far = shaken(loop, pair, ClientTls(ca=files.ca), ServerTls(cert=files.good))
    near.send(b"half a w")
    with far.sock as sock:
        far.sock = Torn(arrived(sock, 8 + 16))
        assert far.recv_into(bytearray(100)) == 8
        for _ in range(2):
            with pytest.raises(ConnectionResetError):
                far.recv_into(bytearray(100))


def test_an_end_without_goodbye_is_an_end_and_is_known(loop, pair, files) -> None:
    def break_off(sock: ssl.SSLSocket) -> None:
        sock.sendall(b"half a w")
        socket.socket.shutdown(sock, socket.SHUT_WR)

    with python_peer(loop, pair, files, break_off) as (secured, _):
        flow = Flow(loop, secured, end=False)
        until(loop, flow.over)
    assert flow.error is None and flow.count == 8 and secured.truncated


def test_close_says_no_goodbye(loop, pair, files) -> None:
    with python_peer(loop, pair, files, read_to_the_end) as (secured, results):
        secured.send(b"half a w")
    assert isinstance(results[0], ssl.SSLEOFError)


@pytest.mark.parametrize("closed", [False, True])
def test_a_full_socket_gets_its_goodbye_later(loop, pair, files, closed) -> None:
    go, done = threading.Event(), threading.Event()

    def read_late(sock: ssl.SSLSocket) -> int:
        go.wait(PATIENCE)
        try:
            return len(read_to_the_end(sock))
        finally:
            done.set()

    with python_peer(loop, pair, files, read_late) as (secured, results):
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                sent += secured.send(PIECE)
        secured.shutdown(socket.SHUT_WR)  # what is encrypted already goes with it
        if closed:
            secured.close()
            loop.call_later(0.1, go.set)  # an attempt or two come before it
            until(loop, loop.run_in_executor(None, done.wait, PATIENCE))
        else:
            go.set()
            flow = Flow(loop, secured, end=False)
            until(loop, flow.over)
    assert results == [sent + len(PIECE)]


def test_bytes_that_are_no_tls_break_the_connection(loop, pair, files) -> None:
    def garble(sock: ssl.SSLSocket) -> None:
        sock.sendall(b"well")
        socket.socket.send(sock, b"\x17\x03\x03\x00\x20" + bytes(32))
        with contextlib.suppress(ssl.SSLError):
            read_to_the_end(sock)

    with python_peer(loop, pair, files, garble) as (secured, _):
        flow = Flow(loop, secured, end=False)
        until(loop, flow.over)
    assert isinstance(flow.error, ConnectionResetError) and "TLS: " in str(flow.error)
    assert flow.count == 4


# Names.

CERTIFICATE = {
    "subject": ((("commonName", "common.example"),),),
    "subjectAltName": (
        ("DNS", "db.example"), ("DNS", "*.shop.example"), ("DNS", "*.com"), ("DNS", "f*.bar.example"),
        ("IP Address", "10.0.0.7"), ("IP Address", "2001:DB8:0:0:0:0:0:1\n"),
        ("URI", "spiffe://cluster.local/ns/shop/sa/cart"), ("email", "db@mail.example"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "is_named"),
    [
        ("db.example", True),
        ("DB.EXAMPLE.", True),
        ("a.db.example", False),
        ("example", False),
        ("cart.shop.example", True),
        ("a.cart.shop.example", False),
        ("shop.example", False),
        ("*.shop.example", True),
        ("*.example", False),  # as OpenSSL: no star before a top-level name
        ("*", False),
        ("*.*.example", False),
        ("evil.com", False),
        ("foo.bar.example", False),
        ("common.example", False),
        ("db@mail.example", False),
        ("mail.example", False),
        ("10.0.0.7", True),
        ("10.0.0.8", False),
        ("2001:db8::1", True),
        ("[2001:db8::1]", True),
        ("spiffe://cluster.local/ns/shop/sa/cart", True),
        ("spiffe://cluster.local/ns/shop/*", True),
        ("spiffe://cluster.local/ns/sho*", False),
        ("spiffe://cluster.local/ns/shop/sa/cart/*", False),
        ("spiffe://cluster.local/ns/shop/sa/car", False),
        ("spiffe://CLUSTER.local/ns/shop/sa/cart", False),
        ("", False),
    ],
)
def test_a_certificate_is_for_the_names_it_has(name, is_named) -> None:
    with contextlib.nullcontext() if is_named else pytest.raises(TlsFailed, match="certificate is not for"):
        check_names(CERTIFICATE, (name,))


def test_a_uri_that_goes_up_again_is_not_below() -> None:
    sneaky = {"subjectAltName": (("URI", "spiffe://a/ns/shop/../admin"), ("URI", "spiffe://a/ns/shop/%2e%2e/admin"))}
    with pytest.raises(TlsFailed):
        check_names(sneaky, ("spiffe://a/ns/shop/*",))


def test_a_certificate_without_names_is_for_nobody() -> None:
    with pytest.raises(TlsFailed, match=r"not for db \(it names nobody\)"):
        check_names({"subject": CERTIFICATE["subject"]}, ("db",))


def test_a_certificate_with_very_many_names_makes_no_long_text() -> None:
    many = {"subjectAltName": tuple(("DNS", f"{number}.{'x' * 500}") for number in range(500))}
    assert len(names_of(many)) == 500
    with pytest.raises(TlsFailed) as caught:
        check_names(many, ("db",))
    assert len(str(caught.value)) < 1100


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("db.shop:5432", "db.shop"), ("db.shop.:5432", "db.shop"), ("10.0.0.7:1", "10.0.0.7"),
        ("[2001:db8::1]:5432", "2001:db8::1"), ("/run/db.sock", None),
        ("srv://_redis._tcp.cache.shop", "cache.shop"), ("db", "db"),
    ],
)  # fmt: skip
def test_the_host_that_is_checked_is_the_upstreams(address, host) -> None:
    assert upstream_host(address) == host


# Files.


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module")
def spiffe(tmp_path_factory) -> str:
    """A certificate that names itself by a URI, and is its own authority."""
    path = str(tmp_path_factory.mktemp("spiffe") / "svid.pem")
    openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1", "-subj", "/O=x",
        "-addext", "subjectAltName=URI:spiffe://cluster.local/ns/shop/sa/cart", "-addext", "basicConstraints=CA:FALSE",
        "-keyout", path, "-out", f"{path}.crt",
    )  # fmt: skip
    with open(path, "a") as file:
        file.write(Path(f"{path}.crt").read_text())
    return path


def test_a_certificate_can_be_trusted_by_itself_and_known_by_its_uri(loop, pair, spiffe) -> None:
    name = "spiffe://cluster.local/ns/shop/sa/cart"
    client = ClientTls(ca=f"{spiffe}.crt", names=(name,))
    near, _ = shaken(loop, pair, client, ServerTls(cert=spiffe))
    assert isinstance(near, Secured) and near.names == (name,)


def listener(server: ServerTls | None = None, upstream: ClientTls | None = None, address: str = "db:5432") -> Listener:
    return Listener(listen=":5432", tls=server, upstreams=(Upstream(address=address, tls=upstream),))


def test_settings_that_are_right_are_found_right(files) -> None:
    tls.check(listener(ServerTls(cert=files.good, client_ca=files.ca), ClientTls(ca=files.ca, cert=files.client)))
    tls.check(listener(ServerTls(cert=files.good, cert_key=files.good), ClientTls(verify=False)))
    tls.check(listener(upstream=ClientTls(server_name="off"), address="/run/db.sock"))


def wrong(files: Files, folder: Path) -> dict[str, tuple[ServerTls | ClientTls, str]]:
    (folder / "empty").write_text("")
    (folder / "text").write_text("no certificate")
    (folder / "torn").write_text(Path(files.ca).read_text()[:300] + "\n-----END CERTIFICATE-----\n")
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-aes128", "-pass", "pass:x",
            "-out", str(folder / "encrypted"))  # fmt: skip
    at = lambda name: str(folder / name)  # noqa: E731
    return {
        "missing": (ServerTls(cert=at("none")), "none cannot be read: No such file or directory; is it mounted"),
        "folder": (ServerTls(cert=str(folder)), "cannot be read: Is a directory"),
        "empty": (ServerTls(cert=at("empty")), "empty holds no certificate in PEM form"),
        "key only": (ServerTls(cert=files.ca), "holds no private key; give its file as cert_key"),
        "no key": (ServerTls(cert=files.good, cert_key=at("text")), "holds no private key; is it the right file"),
        "other key": (
            ServerTls(cert=files.good, cert_key=files.client),
            f"the key in {files.client} is not that of the certificate in {files.good}; give a pair",
        ),
        "encrypted": (ServerTls(cert=files.good, cert_key=at("encrypted")), "encrypted is encrypted"),
        "authority": (ClientTls(ca=at("none")), "none cannot be read"),
        "text": (ClientTls(ca=at("text")), "text holds no certificate in PEM form"),
        "torn": (ClientTls(ca=at("torn")), "torn is of no use"),
        "client authority": (ServerTls(cert=files.good, client_ca=at("text")), "text holds no certificate in PEM"),
        "client certificate": (ClientTls(cert=at("none")), "none cannot be read"),
    }


@pytest.mark.parametrize(
    "case",
    ["missing", "folder", "empty", "key only", "no key", "other key", "encrypted", "authority", "text", "torn",
     "client authority", "client certificate"],
)  # fmt: skip
def test_wrong_files_are_found_at_the_start_and_named(files, tmp_path, case) -> None:
    settings, words = wrong(files, tmp_path)[case]
    with pytest.raises(WrongSettings) as caught:
        tls.check(listener(settings) if isinstance(settings, ServerTls) else listener(upstream=settings))
    assert words in str(caught.value)
    assert str(caught.value).startswith(":5432: tls" if isinstance(settings, ServerTls) else ":5432: tls to db:5432")


def test_a_unix_socket_needs_a_name_to_be_checked_by() -> None:
    with pytest.raises(WrongSettings, match="there is no host to check; set server_name"):
        tls.check(listener(upstream=ClientTls(), address="/run/db.sock"))


def test_a_new_certificate_is_taken_and_a_bad_one_is_said_once(files, tmp_path) -> None:
    secret = Secret(tmp_path)
    secret.swap(Path(files.good).read_bytes())
    settings = ServerTls(cert=secret.cert)
    first = tls.server_context(settings)
    with structlog.testing.capture_logs() as said:
        tls.look()
        assert tls.server_context(settings) is first and said == []
        secret.swap(Path(files.client).read_bytes())
        tls.look()
        second = tls.server_context(settings)
        assert second is not first and [each["event"] for each in said] == ["certificate renewed"]
        secret.swap(b"no certificate")
        tls.look()
        tls.look()
        assert tls.server_context(settings) is second
        assert [each["log_level"] for each in said] == ["info", "warning"]
        assert f"{secret.cert} holds no certificate" in said[1]["error"]
        secret.swap(Path(files.good).read_bytes())
        tls.look()
        assert tls.server_context(settings) is not second and len(said) == 3
    third = tls.server_context(settings)
    tls.use([listener(settings)])
    assert tls.server_context(settings) is third
    secret.swap(b"no certificate")
    with structlog.testing.capture_logs() as said:
        tls.use([])  # a listener that has gone: nobody looks after its files
        tls.look()
        assert said == []
        tls.use([listener(settings)])
        assert [each["event"] for each in said] == ["no TLS"]
