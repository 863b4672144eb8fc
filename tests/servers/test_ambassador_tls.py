import contextlib
import hashlib
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from sidecars.ambassador.http.settings import Http
from sidecars.ambassador.settings import ClientTls, Listener, ServerTls
from sidecars.ambassador.settings import Upstream as Upstreams
from tests.servers.ambassador import PATIENCE, Ambassador, Upstream, configured, echo, naming, received, running
from tests.unit.ambassador.certificates import Files, Secret
from tests.unit.core.running import free_port


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("certificates"))


def server_context(cert: str, client_ca: str | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert)
    if client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client_ca)
    return context


def over_tls(context: ssl.SSLContext, serve: Callable[[Any], None]) -> Callable[[socket.socket], None]:
    """Serve as the function does, inside TLS, with a goodbye at the end."""

    def secured(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as sock:
            serve(sock)
            sock.unwrap()

    return secured


def answer(connection: socket.socket) -> None:
    """Take all there is, and only then send it back."""
    content = b"".join(iter(lambda: connection.recv(65536), b""))
    connection.sendall(hashlib.sha256(content).digest() + content)


def secure(ambassador: Ambassador, files: Files, listener: str | None = None, cert: str | None = None) -> ssl.SSLSocket:
    """A client that checks whom it speaks to, and takes no end without a goodbye for one."""
    context = ssl.create_default_context(cafile=files.ca)
    if cert:
        context.load_cert_chain(cert)
    return context.wrap_socket(ambassador.connect(listener), server_hostname="db.example", suppress_ragged_eofs=False)


def to(upstream: Upstream | str, **settings: Any) -> list[dict[str, Any]]:
    address = upstream if isinstance(upstream, str) else upstream.address
    return [{"address": address, **{name: value for name, value in settings.items() if value is not None}}]


def test_content_passes_through_tls_on_both_sides_and_its_end_with_it(tmp_path, files) -> None:
    content = os.urandom(1 << 20) * 12
    upstream = Upstream(over_tls(server_context(files.good, files.ca), answer))
    ours = {"ca": files.ca, "cert": files.client, "server_name": "db.example"}
    listener = {"listen": "127.0.0.1:0", "tls": {"cert": files.good}, "upstreams": to(upstream, tls=ours)}
    with upstream, running(configured(tmp_path / "c.json", listener)) as ambassador:
        for _ in range(2):
            with secure(ambassador, files) as client:
                client.sendall(content)
                # Python's unwrap() says goodbye, and then waits for the answer to it: that comes much later here.
                client.setblocking(False)
                with contextlib.suppress(ssl.SSLWantReadError):
                    client.unwrap()
                client.settimeout(PATIENCE)
                got = received(client, 32 + len(content))
                assert len(got) == 32 + len(content)
                assert got[:32] == hashlib.sha256(content).digest() and got[32:] == content
                with pytest.raises(ssl.SSLZeroReturnError):  # the end, with a goodbye, after ours
                    client.recv(1)
        ambassador.until(lambda: ambassador.sum("connections") == 0)
        assert ambassador.sum("received_bytes_total") == 2 * len(content)
        assert ambassador.sum("sent_bytes_total") == 2 * (len(content) + 32)


def test_openssls_client_is_served_and_its_certificate_is_asked_for(tmp_path, files) -> None:
    tls = {"cert": files.good, "client_ca": files.ca, "names": ["app.example"]}
    with Upstream(lambda connection: connection.sendall(b"welcome\n")) as upstream:
        listener = {"listen": "127.0.0.1:0", "tls": tls, "upstreams": to(upstream)}
        with running(configured(tmp_path / "c.json", listener), "--access-log=stdout", stdout=subprocess.PIPE) as it:

            def s_client(*arguments: str) -> str:
                where = f"127.0.0.1:{it.listens_at()}"
                common = (
                    "-connect",
                    where,
                    "-CAfile",
                    files.ca,
                    "-verify_return_error",
                    "-ign_eof",
                    "-servername",
                    "x",
                )
                run = subprocess.run(
                    ["openssl", "s_client", *common, *arguments],
                    input="",
                    capture_output=True,
                    text=True,
                    timeout=PATIENCE,
                )
                return run.stdout + run.stderr

            for version in ("-tls1_2", "-tls1_3"):
                said = s_client("-cert", files.client, "-key", files.client, version)
                assert "welcome\n" in said and "Verify return code: 0 (ok)" in said
            assert "welcome" not in s_client()
            assert it.wait_for("client not greeted")["detail"] == "client gave no certificate"
            assert "welcome" not in s_client("-cert", files.other, "-key", files.other)
            assert "welcome" not in s_client("-cert", files.good, "-key", files.good)  # of the authority, but another
            it.until(lambda: it.sum("ended_total", reason="tls_failed") == 3)
            assert upstream.count == 2


def agreeing(context: ssl.SSLContext, *protocols: str) -> ssl.SSLContext:
    context.set_alpn_protocols(protocols)
    return context


def test_protocols_are_agreed_on_by_alpn_and_named_http_1_1_in_http_mode(tmp_path, files) -> None:
    def naming_it(connection: Any) -> None:
        connection.sendall(f"{connection.selected_alpn_protocol()}\n".encode())
        connection.recv(1)

    upstream = Upstream(over_tls(agreeing(server_context(files.good), "http/1.1", "h2"), naming_it))
    ours = {"ca": files.ca, "server_name": "db.example"}

    def listener(alpn: list[str], **more: Any) -> dict[str, Any]:
        tls = {"cert": files.good, "alpn": alpn}
        return {"listen": "127.0.0.1:0", "tls": tls, "upstreams": to(upstream, tls=ours | {"alpn": alpn}), **more}

    with upstream, running(configured(tmp_path / "c.json", listener(["h2"]))) as ambassador:
        context = agreeing(ssl.create_default_context(cafile=files.ca), "http/1.1", "h2")
        with context.wrap_socket(ambassador.connect(), server_hostname="db.example") as client:
            assert (client.selected_alpn_protocol(), client.recv(9)) == ("h2", b"h2\n")
    made = Listener(
        listen=":1", http=Http(), tls=ServerTls(cert="c"), upstreams=(Upstreams(address="a:1", tls=ClientTls()),)
    )
    assert made.tls and made.upstreams[0].tls
    assert made.tls.alpn == made.upstreams[0].tls.alpn == ("http/1.1",)


def test_what_is_wrong_with_an_upstreams_certificate_is_said(tmp_path, files) -> None:
    with contextlib.ExitStack() as running_upstreams:

        def upstream(cert: str, client_ca: str | None = None) -> Upstream:
            return running_upstreams.enter_context(Upstream(over_tls(server_context(cert, client_ca), echo)))

        at = lambda number: f"127.0.0.1:{number}"  # noqa: E731
        plain = running_upstreams.enter_context(Upstream(naming(b"-ERR unknown command\r\n")))
        cases: dict[str, tuple[Upstream, str, str]] = {
            at(free_port()): (upstream(files.expired), "db.example", "certificate has expired"),
            at(free_port()): (upstream(files.other), "db.example", "certificate is of an unknown authority"),
            at(free_port()): (plain, "db.example", "it does not speak TLS"),
            at(free_port()): (
                upstream(files.good), "cart.example",
                "certificate is not for cart.example (it names db.example, 127.0.0.1)",
            ),
        }  # fmt: skip
        listeners = [
            {"listen": listen, "upstreams": to(upstream, tls={"ca": files.ca, "server_name": name})}
            for listen, (upstream, name, _) in cases.items()
        ]
        with running(configured(tmp_path / "c.json", *listeners)) as ambassador:

            def told(listen: str, words: str) -> bool:
                with ambassador.connect(listen) as client, contextlib.suppress(ConnectionError):
                    client.sendall(b"not for everybody's eyes")
                    assert client.recv(1) == b""
                return words in str(ambassador.upstreams())

            for listen, (_, _, words) in cases.items():
                ambassador.until(lambda listen=listen, words=words: told(listen, words))
                assert ambassador.sum("upstream_failures_total", listener=listen, reason="tls")


def test_a_renewed_certificate_is_shown_without_a_restart_and_a_bad_one_is_said(tmp_path, files) -> None:
    (tmp_path / "secret").mkdir()
    secret = Secret(tmp_path / "secret")
    secret.swap(Path(files.good).read_bytes())
    with Upstream() as upstream:
        listener = {"listen": "127.0.0.1:0", "tls": {"cert": secret.cert}, "upstreams": to(upstream)}
        with running(configured(tmp_path / "c.json", listener)) as ambassador:

            def shown() -> Any:
                with secure(ambassador, files) as client:
                    certificate = client.getpeercert()
                    return certificate and certificate["serialNumber"]

            with secure(ambassador, files) as old:
                first = shown()
                secret.swap(Path(files.issue("renewed", "db.example")).read_bytes())
                ambassador.wait_for("certificate renewed")
                second = shown()
                assert second != first
                secret.swap(b"not a certificate")
                said = ambassador.wait_for("new certificate is of no use, the old one stays in force")
                assert f"{secret.cert} holds no certificate" in said["error"]
                assert shown() == second
                old.sendall(b"still here")
                assert received(old, 10) == b"still here"


def test_redis_with_mutual_tls_is_reached_in_plain_words(tmp_path, files) -> None:
    port, plain, mutual, bare, both = (free_port() for _ in range(5))
    certificates = ("--tls-cert-file", files.good, "--tls-key-file", files.good, "--tls-ca-cert-file", files.ca)
    server = subprocess.Popen(
        ["redis-server", "--port", "0", "--tls-port", str(port), *certificates, "--save", "", "--dir", tmp_path],
        stdout=subprocess.DEVNULL,
    )
    try:
        listeners = [
            {"listen": f"127.0.0.1:{mutual}",
             "upstreams": to(f"127.0.0.1:{port}", tls={"ca": files.ca, "cert": files.client})},
            {"listen": f"127.0.0.1:{bare}", "upstreams": to(f"127.0.0.1:{port}", tls={"ca": files.ca})},
            {"listen": f"127.0.0.1:{plain}", "redis": {},
             "upstreams": to(f"127.0.0.1:{port}", tls={"ca": files.ca, "cert": files.client})},
            {"listen": f"127.0.0.1:{both}", "redis": {}, "tls": {"cert": files.good},
             "upstreams": to(f"127.0.0.1:{port}", tls={"ca": files.ca, "cert": files.client})},
        ]  # fmt: skip
        with running(configured(tmp_path / "c.json", *listeners)) as ambassador:

            def ask(port: int) -> bytes:
                with socket.create_connection(("127.0.0.1", port), PATIENCE) as client, contextlib.suppress(OSError):
                    client.sendall(b"SET k v\r\nGET k\r\n" if port != plain else b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n")
                    return received(client, 12 if port != plain else 7)
                return b""

            ambassador.until(lambda: ask(mutual) == b"+OK\r\n$1\r\nv\r\n")
            assert ask(plain) == b"$1\r\nv\r\n"
            assert ask(bare) == b""
            with redis.Redis(port=both, host="127.0.0.1", ssl=True, ssl_ca_certs=files.ca) as client:
                large = os.urandom(3 << 20)
                with client.pipeline(transaction=False) as pipeline:
                    for number in range(1000):
                        pipeline.set(f"key:{number}", number)
                    pipeline.set("large", large)
                    assert all(pipeline.execute())
                assert client.mget(f"key:{number}" for number in range(1000)) == [b"%d" % n for n in range(1000)]
                assert client.get("large") == large
            with secure(ambassador, files, f"127.0.0.1:{both}") as quitter:
                quitter.sendall(b"*1\r\n$4\r\nQUIT\r\n")
                assert b"".join(iter(lambda: quitter.recv(100), b"")) == b"+OK\r\n"  # with a goodbye
    finally:
        server.terminate()
        server.wait(PATIENCE)


SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"


def as_postgres_does(context: ssl.SSLContext, answer: bytes, more: bytes = b"") -> Callable[[socket.socket], None]:
    """Wait for an SSLRequest, answer it, and go on inside TLS."""

    def serve(connection: socket.socket) -> None:
        assert received(connection, 8) == SSL_REQUEST
        connection.sendall(answer + more)
        over_tls(context, echo)(connection)

    return serve


@pytest.mark.parametrize(
    ("answer", "more", "served"),
    [
        (b"S", b"", True),
        (b"N", b"", False),
        (b"S", b"R\x00\x00\x00\x08\x00\x00\x00\x00", False),  # slipped in before TLS, CVE-2021-23222
    ],
)
def test_postgres_is_asked_for_tls_in_its_own_words(tmp_path, files, answer, more, served) -> None:
    with Upstream(as_postgres_does(server_context(files.good), answer, more)) as upstream:
        tls = {"ca": files.ca, "starttls": "postgres"}
        check = {"check": {"tcp": {}}} if served else {}
        listener = {"listen": "127.0.0.1:0", "upstreams": to(upstream, tls=tls), **check}
        with running(configured(tmp_path / "c.json", listener)) as ambassador:
            with ambassador.connect() as client, contextlib.suppress(ConnectionError):
                client.sendall(SSL_REQUEST)  # libpq asks, unless it is told not to
                assert received(client, 1) == b"N"
                client.sendall(b"startup")
                assert received(client, 7) == (b"startup" if served else b"")
            if served:
                ambassador.until(lambda: ambassador.sum("upstream_up") == 1)
            else:
                ambassador.until(lambda: ambassador.sum("upstream_failures_total", reason="tls") == 1)


HAPROXY = """
defaults
  mode tcp
  timeout connect 20s
  timeout client 20s
  timeout server 20s
listen v1
  bind fd@{v1}
  server ambassador 127.0.0.1:{a} send-proxy
listen v2
  bind fd@{v2}
  server ambassador 127.0.0.1:{b} send-proxy-v2
listen tls
  bind fd@{tls}
  server ambassador 127.0.0.1:{c} send-proxy-v2 ssl verify required ca-file {ca} verifyhost db.example
frontend whoami
  mode http
  bind fd@{whoami} accept-proxy
  bind fd@{secret} accept-proxy ssl crt {cert}
  http-request return content-type text/plain lf-string "%[src]:%[src_port]"
"""


@pytest.fixture
def haproxy(tmp_path: Path, files: Files) -> Iterator[Callable[..., dict[str, int]]]:
    """Start an haproxy that passes on to these ports, and says by HTTP whom it was told of; gives its own ports."""
    with contextlib.ExitStack() as all_of_it:

        def start(**ports: int) -> dict[str, int]:
            listening = {
                name: all_of_it.enter_context(socket.create_server(("127.0.0.1", 0)))
                for name in ("v1", "v2", "tls", "whoami", "secret")
            }
            numbers = {name: each.fileno() for name, each in listening.items()}
            path = tmp_path / "haproxy.cfg"
            path.write_text(HAPROXY.format(**ports, **numbers, ca=files.ca, cert=files.good))
            program = shutil.which("haproxy") or "/usr/sbin/haproxy"
            process = subprocess.Popen([program, "-db", "-f", path], pass_fds=numbers.values())
            all_of_it.callback(process.wait, PATIENCE)
            all_of_it.callback(process.terminate)
            return {name: each.getsockname()[1] for name, each in listening.items()}

        yield start


def test_haproxy_tells_us_the_client_and_we_tell_haproxy(tmp_path, files, haproxy) -> None:
    ports = {name: free_port() for name in "abc"}
    has = haproxy(**ports)
    whoami, secret = f"127.0.0.1:{has['whoami']}", f"127.0.0.1:{has['secret']}"
    listeners: list[dict[str, Any]] = [
        {"listen": f"127.0.0.1:{ports['a']}", "upstreams": to(whoami, proxy_protocol="v2")},
        {"listen": f"127.0.0.1:{ports['b']}", "upstreams": to(whoami, proxy_protocol="v1")},
        {"listen": f"127.0.0.1:{ports['c']}", "tls": {"cert": files.good},
         "upstreams": to(secret, proxy_protocol="v2", tls={"ca": files.ca})},
    ]  # fmt: skip
    with running(configured(tmp_path / "c.json", *({**each, "accept_proxy": True} for each in listeners))):
        for name in ("v1", "v2", "tls"):
            with socket.create_connection(("127.0.0.1", has[name]), PATIENCE) as client:
                client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                answer = b"".join(iter(lambda client=client: client.recv(1000), b"")).decode()
                assert answer.endswith("\r\n\r\n{}:{}".format(*client.getsockname())), name


def test_who_says_no_header_or_is_not_allowed_gets_nothing_and_others_are_served(tmp_path) -> None:
    with Upstream(naming(b"welcome")) as upstream:
        listener = {
            "listen": "127.0.0.1:0", "accept_proxy": True, "allow": ["192.0.2.0/24"], "upstreams": to(upstream),
        }  # fmt: skip
        with running(configured(tmp_path / "c.json", listener)) as ambassador:
            silent = [ambassador.connect() for _ in range(50)]
            for header, reason in (
                (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "bad_proxy_header"),
                (b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff" + bytes(70000), "bad_proxy_header"),
                (b"PROXY TCP4 203.0.113.1 192.0.2.1 1 1\r\n", "refused_allow"),
            ):
                before = ambassador.sum("ended_total", reason=reason)
                with ambassador.connect() as client, contextlib.suppress(ConnectionError):
                    client.sendall(header)
                    assert client.recv(1) == b""
                ambassador.until(
                    lambda reason=reason, before=before: ambassador.sum("ended_total", reason=reason) == before + 1
                )
            with ambassador.connect() as client:
                client.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.1 1 1\r\n")
                assert received(client, 7) == b"welcome"
            assert upstream.count == 1
            for each in silent:
                each.close()
            ambassador.until(lambda: ambassador.sum("connections") == 0)


@pytest.mark.parametrize("flags", [(), ("--check-config",)])
def test_a_certificate_that_is_missing_ends_the_start_and_is_named(tmp_path, flags) -> None:
    missing = str(tmp_path / "tls.crt")
    listener = {"listen": "127.0.0.1:0", "tls": {"cert": missing}, "upstreams": to("127.0.0.1:1")}
    with Ambassador(configured(tmp_path / "c.json", listener), *flags) as ambassador:
        code, _ = ambassador.ended()
    assert code == 2
    said = "\n".join(ambassador.lines)
    assert f"127.0.0.1:0: tls: {missing} cannot be read: No such file or directory; is it mounted" in said
