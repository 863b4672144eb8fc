"""Inputs without a file behind them, met by real writers: pipes, FIFOs, sockets, logger(1), Python's SysLogHandler."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import functools
import logging
import logging.handlers
import os
import shutil
import socket
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Sequence
from typing import ClassVar

import pytest

from sidecars.adapter import inputs, metrics
from sidecars.adapter.inputs import syslog
from sidecars.adapter.inputs.queue import Queue
from sidecars.adapter.settings import Settings
from sidecars.core.errors import WrongSettings
from sidecars.core.follow.join import records
from sidecars.core.health import Health
from sidecars.core.settings import Bytes, Seconds
from tests.servers.process import Sidecar

PATIENCE = 20.0
LIMIT = 2 << 20
LINES = b"".join(b"%06d the quick brown fox\n" % number for number in range(100_000))
# Writes the lines to the descriptor that is its stdout.
WRITER = "import os\nfor n in range(100_000): os.write(1, b'%06d the quick brown fox\\n' % n)"


class Taken:
    """The inputs of some settings under way, and what a reader, an output, got of them."""

    def __init__(self, *, records=None, acknowledging=True, **given) -> None:
        self.settings = Settings(
            **{"queue_limit": Bytes(LIMIT), "poll_interval": Seconds(0.05), "multiline_timeout": Seconds(0.1), **given}
        )
        self.health = Health()
        self.queue = Queue(self.settings.queue_limit, 1, keep=1000)
        paths = inputs.split(self.settings.paths)
        assert inputs.wanted(self.settings, paths)
        self.inputs = inputs.Inputs(self.settings, paths, self.queue, self.health, records)
        self.got: dict[str, bytearray] = {}
        self.most = 0
        self.acknowledging = asyncio.Event()
        if acknowledging:
            self.acknowledging.set()

    async def __aenter__(self):
        self.addresses = await self.inputs.open()
        self.ports = [int(each.rpartition(":")[2]) for each in self.addresses if "://" in each and each[:4] != "unix"]
        self.running = asyncio.create_task(self.inputs.run())
        self.reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *error) -> None:
        self.reading.cancel()
        self.running.cancel()
        await asyncio.wait([self.reading, self.running])
        await self.inputs.close()
        if not error[0] and not self.running.cancelled():
            self.running.result()

    async def _read(self) -> None:
        reader = self.queue.reader(0)
        async for portion in reader:
            await self.acknowledging.wait()
            self.most = max(self.most, self.queue.undelivered)
            self.got.setdefault(portion.origin, bytearray()).extend(portion.data)
            reader.acknowledge(portion)

    def read(self, origin: str = "syslog") -> bytes:
        return bytes(self.got.get(origin, b""))

    async def until(self, happened: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not happened():
                await asyncio.sleep(0.002)

    async def until_read(self, expected: bytes, origin: str = "syslog") -> None:
        with contextlib.suppress(TimeoutError):
            await self.until(lambda: len(self.read(origin)) >= len(expected))
        assert self.read(origin) == expected

    async def ended(self) -> None:
        """Wait until run() has ended of itself, and the reader has all of it."""
        async with asyncio.timeout(PATIENCE):
            await self.running
            self.queue.close()
            await self.reading


def in_loop(test):
    """Run a test that is a coroutine."""

    @functools.wraps(test)
    def run(**fixtures):
        asyncio.run(test(**fixtures))

    return run


@contextlib.contextmanager
def standard_input(descriptor: int):
    """Let this be descriptor 0, and close it afterwards."""
    kept = os.dup(0) if _is_open(0) else None
    os.dup2(descriptor, 0)
    os.close(descriptor)
    try:
        yield
    finally:
        os.close(0)
        if kept is not None:
            os.dup2(kept, 0)
            os.close(kept)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def writer(stdout, program: str = WRITER):
    with subprocess.Popen([sys.executable, "-c", program], stdout=stdout) as process:
        try:
            yield process
        finally:
            process.kill()


# The standard input


@in_loop
async def test_a_pipe_is_read_to_its_end_in_order_and_within_the_limit():
    read, write = os.pipe()
    with standard_input(read), writer(write):
        os.close(write)
        async with Taken(paths=("-",)) as taken:
            await taken.ended()
    assert taken.read("stdin") == LINES
    assert taken.most <= LIMIT


@in_loop
async def test_a_file_is_read_to_its_end_and_its_last_line_needs_no_newline(tmp_path):
    (tmp_path / "file").write_bytes(LINES + b"last")
    with standard_input(os.open(tmp_path / "file", os.O_RDONLY)):
        async with Taken(paths=("-",)) as taken:
            await taken.ended()
    assert taken.read("stdin") == LINES + b"last\n"


@in_loop
async def test_a_terminal_is_read_until_it_is_gone():
    controller, terminal = os.openpty()
    with standard_input(terminal):
        async with Taken(paths=("-",)) as taken:
            os.write(controller, b"typed\n")
            await taken.until_read(b"typed\n", "stdin")
            os.close(controller)
            await taken.ended()


@in_loop
async def test_without_a_standard_input_there_is_nothing_to_read():
    with standard_input(os.open("/dev/null", os.O_RDONLY)):
        async with Taken(paths=("-",)) as taken:
            await taken.ended()
    assert taken.got == {}


@in_loop
async def test_a_standard_input_that_is_closed_is_a_wrong_setting():
    kept = os.dup(0) if _is_open(0) else None
    with contextlib.suppress(OSError):
        os.close(0)
    try:
        with pytest.raises(WrongSettings, match="standard input is closed"):
            await Taken(paths=("-",)).inputs.open()
    finally:
        if kept is not None:
            os.dup2(kept, 0)
            os.close(kept)


@in_loop
async def test_a_writer_waits_while_nobody_acknowledges():
    read, write = os.pipe()
    with standard_input(read), writer(write, "import os\nwhile True: os.write(1, b'x' * 999 + b'\\n')") as process:
        os.close(write)
        async with Taken(paths=("-",), acknowledging=False) as taken:
            await taken.until(lambda: taken.queue.undelivered > LIMIT - (1 << 20) and unread(0) >= 60_000)
            assert taken.queue.undelivered <= LIMIT
            process.kill()
            taken.acknowledging.set()
            await taken.ended()
    assert set(taken.read("stdin").split(b"\n")[:-2]) == {b"x" * 999}


def unread(descriptor: int) -> int:
    """How many bytes wait in a pipe."""
    return struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)))[0]


@in_loop
async def test_a_trace_is_one_record_and_the_last_one_waits_for_its_next_line_a_little():
    read, write = os.pipe()
    with standard_input(read):
        async with Taken(paths=("-",), records=records("java")) as taken:
            os.write(write, b"one\n\tat a.B.c(D.java:1)\ntwo\n\tat a")
            await taken.until_read(b"one\n\tat a.B.c(D.java:1)\ntwo\n", "stdin")
            os.write(write, b".B.c(D.java:2)\n")
            await taken.until_read(b"one\n\tat a.B.c(D.java:1)\ntwo\n\tat a.B.c(D.java:2)\n", "stdin")
            os.close(write)
            await taken.ended()


@in_loop
async def test_the_drain_takes_what_is_there_and_ends():
    read, write = os.pipe()
    with standard_input(read):
        async with Taken(paths=("-",), syslog=("udp://127.0.0.1:0", "tcp://127.0.0.1:0"), post=True) as taken:
            udp, tcp = taken.ports
            client = socket.create_connection(("127.0.0.1", tcp))
            client.sendall(b"<1>tcp\n")
            await taken.until_read(b"<1>tcp\n")
            os.write(write, b"last")
            client.sendall(b"<1>begun")
            send_udp(udp, b"<1>udp")
            taken.inputs.drain(0.05)
            await taken.ended()
            client.close()
    os.close(write)
    assert taken.read("stdin") == b"last\n"
    assert sorted(taken.read().splitlines()) == [b"<1>begun", b"<1>tcp", b"<1>udp"]


# FIFOs


@in_loop
async def test_writers_of_a_fifo_come_and_go(tmp_path):
    path = str(tmp_path / "fifo")
    os.mkfifo(path)
    async with Taken(paths=(path,)) as taken:
        expected = b""
        descriptors = 0
        for number in range(20):
            expected += b"line %d\n" % number
            await write_fifo(path, b"line %d" % number + b"\n" * (number % 2))
            await taken.until_read(expected, path)
            descriptors = descriptors or len(os.listdir("/proc/self/fd"))
        await taken.until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)
        with open(path, "wb") as fifo, writer(fifo) as process:
            await taken.until_read(expected + LINES, path)
            assert process.wait(PATIENCE) == 0
        assert not taken.running.done()
    assert taken.most <= LIMIT


async def write_fifo(path: str, data: bytes) -> None:
    """Write as soon as somebody reads."""
    async with asyncio.timeout(PATIENCE):
        while (descriptor := fifo_for_writing(path)) is None:
            await asyncio.sleep(0.002)
    os.write(descriptor, data)
    os.close(descriptor)


def fifo_for_writing(path: str) -> int | None:
    try:
        return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        assert error.errno == errno.ENXIO
        return None


@in_loop
async def test_a_path_may_become_a_fifo_and_the_fifo_another(tmp_path):
    path = str(tmp_path / "fifo")
    async with Taken(paths=(path,)) as taken:
        os.mkfifo(path)
        await write_fifo(path, b"one\n")
        await taken.until_read(b"one\n", path)
        os.unlink(path)
        os.mkfifo(path)
        await write_fifo(path, b"two\n")
        await taken.until_read(b"one\ntwo\n", path)


@in_loop
async def test_once_a_fifo_ends_with_its_first_writer(tmp_path):
    path = str(tmp_path / "fifo")
    os.mkfifo(path)
    async with Taken(paths=(path,), once=True) as taken:
        await write_fifo(path, b"one\ntwo")
        await taken.ended()
    assert taken.read(path) == b"one\ntwo\n"


def test_paths_are_split_by_what_is_behind_them(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").touch()
    files = (str(tmp_path / "file"), str(tmp_path / "none"), "/logs/*.log")
    found = inputs.split(["-", str(tmp_path / "fifo"), *files])
    assert found == (files, True, (str(tmp_path / "fifo"),))
    settings = Settings(paths=(str(tmp_path / "file"),))
    assert not inputs.wanted(settings, inputs.split(settings.paths))


# Syslog by datagrams


def send_udp(port: int, *messages: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for message in messages:
            client.sendto(message, ("127.0.0.1", port))


@in_loop
async def test_datagrams_are_records_in_their_order_whatever_is_in_them():
    async with Taken(syslog=("udp://:0",)) as taken:
        send_udp(taken.ports[0], b"<1>one", b"<1>two\nlines\n", b"", b"<1>nul\0")
        await taken.until_read(b"<1>one\n<1>two lines\n<1>nul\n")
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
            client.sendto(b"<1>six", ("::1", taken.ports[0]))
        await taken.until_read(b"<1>one\n<1>two lines\n<1>nul\n<1>six\n")


@in_loop
async def test_a_hundred_thousand_datagrams_arrive_when_the_sender_is_no_faster():
    """Every few hundred are waited for: what the kernel drops is no promise of this program."""
    async with Taken(syslog=("udp://127.0.0.1:0",)) as taken:
        lines = LINES.splitlines(keepends=True)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect(("127.0.0.1", taken.ports[0]))
            for begin in range(0, len(lines), 250):
                for line in lines[begin : begin + 250]:
                    client.send(line)
                size = len(lines[0]) * min(len(lines), begin + 250)
                await taken.until(lambda size=size: len(taken.read()) >= size)
    assert taken.read() == LINES
    assert taken.most <= LIMIT


@in_loop
async def test_what_comes_while_the_queue_is_full_is_dropped_and_counted():
    dropped = metrics.DROPPED_RECORDS.labels("syslog")
    before = dropped._value.get()
    async with Taken(syslog=("udp://127.0.0.1:0",), acknowledging=False) as taken:
        sent = 0
        while dropped._value.get() == before:
            send_udp(taken.ports[0], *[b"%06d " % sent + b"x" * 993] * 20)
            sent += 20
            await taken.until(lambda sent=sent: count(taken, dropped, before) == sent)
        assert LIMIT - 1001 < taken.queue.undelivered <= LIMIT
        taken.acknowledging.set()
        await taken.until(lambda: taken.queue.undelivered == 0)
        send_udp(taken.ports[0], b"<1>after")
        await taken.until(lambda: taken.read().endswith(b"<1>after\n"))
        assert taken.read().count(b"\n") == 1 + sent - (dropped._value.get() - before)


def count(taken, dropped, before) -> int:
    return (taken.queue.undelivered // 1001) + int(dropped._value.get() - before)


@pytest.mark.skipif(not shutil.which("logger"), reason="NOT PROVEN HERE: there is no logger(1)")
@pytest.mark.parametrize("kind", ["udp", "tcp", "tcp counted", "unix"])
@in_loop
async def test_logger_sends(tmp_path, kind):
    url = f"unix://{tmp_path}/log" if kind == "unix" else f"{kind[:3]}://127.0.0.1:0"
    async with Taken(syslog=(url,)) as taken:
        where = (
            ["--socket", str(tmp_path / "log")] if kind == "unix" else ["-n", "127.0.0.1", "-P", str(taken.ports[0])]
        )
        form = {"udp": ["-d"], "tcp": ["-T"], "tcp counted": ["-T", "--octet-count"], "unix": []}[kind]
        subprocess.run(["logger", *where, *form, "-t", "app", "-p", "local0.info", "hello"], check=True)
        await taken.until(lambda: taken.read().endswith(b"\n"))
        assert taken.read().startswith(b"<134>")
        assert taken.read().endswith(b"hello\n")
        assert b"app" in taken.read()


@pytest.mark.parametrize("kind", ["udp", "tcp", "unix"])
@in_loop
async def test_pythons_own_handler_sends(tmp_path, kind):
    url = f"unix://{tmp_path}/log" if kind == "unix" else f"{kind}://127.0.0.1:0"
    async with Taken(syslog=(url,)) as taken:
        where = str(tmp_path / "log") if kind == "unix" else ("127.0.0.1", taken.ports[0])
        type_ = socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM
        handler = logging.handlers.SysLogHandler(where, socktype=type_)
        for text in ("one", "two\nlines" if kind != "tcp" else "two lines"):
            handler.emit(logging.LogRecord("app", logging.INFO, "", 0, text, None, None))
        handler.close()
        await taken.until_read(b"<14>one\n<14>two lines\n")


# Syslog by TCP


@in_loop
async def test_a_hundred_thousand_lines_by_tcp_arrive_in_order_and_within_the_limit():
    async with Taken(syslog=("tcp://:0",)) as taken:
        with socket.create_connection(("127.0.0.1", taken.ports[0])) as client, writer(client.fileno()):
            await taken.until_read(LINES)
    assert taken.most <= LIMIT


@in_loop
async def test_a_sender_waits_while_nobody_acknowledges():
    async with Taken(syslog=("tcp://127.0.0.1:0",), acknowledging=False) as taken:
        with socket.create_connection(("127.0.0.1", taken.ports[0])) as client:
            client.setblocking(False)
            sent = await send_until_full(client, taken)
            assert taken.queue.undelivered <= LIMIT
            taken.acknowledging.set()
            await taken.until(lambda: len(taken.read()) >= sent // 1000 * 1000)
            client.setblocking(True)
            client.sendall(b"x" * (999 - sent % 1000) + b"\n<1>end\n")
            await taken.until(lambda: taken.read().endswith(b"<1>end\n"))
    assert set(taken.read().split(b"\n")) == {b"x" * 999, b"<1>end", b""}


async def send_until_full(client, taken) -> int:
    """Send until nothing is taken any more, and give how many bytes were."""
    sent = 0
    line = b"x" * 999 + b"\n"
    idle = 0
    while idle < 5:
        try:
            sent += client.send((line * 65)[sent % 1000 :])
            idle = 0
        except BlockingIOError:
            idle += taken.queue.undelivered > LIMIT - 70_000
            await asyncio.sleep(0.01)
        assert sent < 200 << 20
    return sent


@in_loop
async def test_what_a_connection_began_is_a_record_when_it_is_reset():
    async with Taken(syslog=("tcp://127.0.0.1:0",)) as taken:
        with socket.create_connection(("127.0.0.1", taken.ports[0])) as client:
            client.sendall(b"<1>whole\n<1>begun")
            await taken.until_read(b"<1>whole\n")
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await taken.until_read(b"<1>whole\n<1>begun\n")


@in_loop
async def test_a_client_that_has_ended_its_half_is_read_to_the_end():
    async with Taken(syslog=("tcp://127.0.0.1:0",)) as taken:
        with socket.create_connection(("127.0.0.1", taken.ports[0])) as client:
            client.sendall(b"12 <1>begun")
            client.shutdown(socket.SHUT_WR)
            await taken.until_read(b"<1>begun\n")
            client.settimeout(PATIENCE)
            assert await asyncio.to_thread(client.recv, 1) == b""


@in_loop
async def test_one_connection_more_takes_the_place_of_the_quietest():
    async with Taken(syslog=("tcp://127.0.0.1:0",)) as taken:
        with contextlib.ExitStack() as stack:
            clients = []
            expected = b""
            for number in range(syslog.MOST_CONNECTIONS):
                clients.append(stack.enter_context(socket.create_connection(("127.0.0.1", taken.ports[0]))))
                clients[-1].sendall(b"<1>client %d\n" % number)
                expected += b"<1>client %d\n" % number
                await taken.until_read(expected)
            clients[1].sendall(b"<1>begun")
            for each in (clients[0], *clients[2:]):
                each.sendall(b"<1>busy\n")
            await taken.until(lambda: taken.read().count(b"busy") == len(clients) - 1)
            late = stack.enter_context(socket.create_connection(("127.0.0.1", taken.ports[0])))
            clients[1].settimeout(PATIENCE)
            assert await asyncio.to_thread(clients[1].recv, 1) == b""
            late.sendall(b"<1>late\n")
            clients[0].sendall(b"<1>still\n")
            await taken.until(lambda: b"late" in taken.read() and b"still" in taken.read())
            assert b"<1>begun\n" in taken.read()


@in_loop
async def test_messages_that_do_not_end_are_cut_when_they_are_too_many_bytes_together():
    async with Taken(syslog=("tcp://127.0.0.1:0",)) as taken:
        with contextlib.ExitStack() as stack:
            begun = b"<1>" + b"x" * 900_000
            for _ in range(12):
                client = stack.enter_context(socket.create_connection(("127.0.0.1", taken.ports[0])))
                await asyncio.to_thread(client.sendall, begun)
            await taken.until(lambda: len(taken.read()) >= 12 * len(begun) - (8 << 20))
        await taken.until(lambda: len(taken.read().replace(b"\n", b"")) == 12 * len(begun))


@in_loop
async def test_datagrams_that_wait_in_the_kernel_are_taken_at_the_end():
    taken = Taken(syslog=("udp://127.0.0.1:0",))
    [address] = await taken.inputs.open()
    send_udp(int(address.rpartition(":")[2]), *[b"<1>waits"] * 300)
    await taken.inputs.close()
    assert (await anext(taken.queue.reader(0))).data == b"<1>waits\n" * 300


# Addresses


@pytest.mark.parametrize("url", ["udp://nowhere", "http://:1", "unix://relative", "unix://", ":5514", "tcp://:99999"])
@in_loop
async def test_an_address_that_is_none_is_a_wrong_setting(url):
    with pytest.raises(WrongSettings, match=r"--syslog is .* expected udp://:5514, tcp://:5514 or unix:///PATH"):
        await Taken(syslog=(url,)).inputs.open()


@pytest.mark.parametrize("kind", ["udp", "tcp"])
@pytest.mark.parametrize("host", ["", "127.0.0.1"])
@in_loop
async def test_a_port_that_is_taken_is_a_wrong_setting(kind, host):
    async with Taken(syslog=(f"{kind}://{host}:0",)) as taken:
        with pytest.raises(
            WrongSettings, match=f"cannot listen on --syslog {kind}://{host}:.* in use; give a free one"
        ):
            await Taken(syslog=(f"{kind}://{host}:{taken.ports[0]}",)).inputs.open()


@in_loop
async def test_the_socket_of_a_dead_process_is_replaced_and_that_of_a_living_one_is_not(tmp_path):
    path = tmp_path / "log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
        dead.bind(str(path))
    async with Taken(syslog=(f"unix://{path}",)) as taken:
        assert path.stat().st_mode & 0o777 == 0o666
        with pytest.raises(WrongSettings, match=f"cannot listen on --syslog unix://{path}: Address already in use"):
            await Taken(syslog=(f"unix://{path}",)).inputs.open()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.sendto(b"<1>" + b"x" * 100_000, str(path))
        await taken.until_read(b"<1>" + b"x" * 100_000 + b"\n")
    assert not path.exists()


@in_loop
async def test_the_stream_socket_of_a_living_process_is_not_replaced(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as living:
        living.bind(f"{tmp_path}/log")
        living.listen()
        with pytest.raises(WrongSettings, match="Address already in use"):
            await Taken(syslog=(f"unix://{tmp_path}/log",)).inputs.open()


@in_loop
async def test_a_file_in_the_sockets_place_is_left_alone(tmp_path):
    (tmp_path / "log").write_text("precious")
    with pytest.raises(WrongSettings, match="Address already in use"):
        await Taken(syslog=(f"unix://{tmp_path}/log",)).inputs.open()
    assert (tmp_path / "log").read_text() == "precious"


@in_loop
async def test_a_queue_that_is_too_small_is_a_wrong_setting():
    with pytest.raises(WrongSettings, match="--queue-limit is 1MiB, expected 2MiB or more"):
        await Taken(syslog=("udp://127.0.0.1:0",), queue_limit=Bytes(1 << 20)).inputs.open()


def test_a_hundred_connections_leave_no_descriptor():
    async def rounds() -> None:
        async with Taken(syslog=("tcp://127.0.0.1:0",)) as taken:
            before = len(os.listdir("/proc/self/fd"))
            for number in range(100):
                with socket.create_connection(("127.0.0.1", taken.ports[0])) as client:
                    client.sendall(b"<1>%d\n" % number)
            await taken.until(lambda: taken.read().count(b"\n") == 100)
            await taken.until(lambda: len(os.listdir("/proc/self/fd")) <= before)

    asyncio.run(rounds())


# The whole program


class Adapter(Sidecar):
    """log-adapter that writes what it read as it was."""

    command: ClassVar[Sequence[str]] = (
        sys.executable, "-m", "sidecars.adapter", "--from=text", "--to=template", "--template={message}",
    )  # fmt: skip
    prefix: ClassVar[str] = "ADAPTER_"
    defaults: ClassVar[dict[str, str]] = {
        "ADAPTER_ADMIN": "127.0.0.1:0", "ADAPTER_LISTEN": "off", "ADAPTER_QUIET": "0.1s", "ADAPTER_STATE_DIR": "off",
    }  # fmt: skip


def test_a_pipe_goes_through_and_ends_the_program(tmp_path):
    read, write = os.pipe()
    with writer(write), open(tmp_path / "out", "wb") as out, Adapter("-", stdin=read, stdout=out) as adapter:
        os.close(write)
        os.close(read)
        assert adapter.ended()[0] == 0
    assert (tmp_path / "out").read_bytes() == LINES


def test_the_drain_delivers_what_was_sent_before_it(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    urls = ("--syslog=udp://127.0.0.1:0", "--syslog=tcp://127.0.0.1:0")
    with open(tmp_path / "out", "wb") as out, Adapter(tmp_path / "fifo", *urls, stdout=out) as adapter:
        udp, tcp = (int(url.rpartition(":")[2]) for url in adapter.wait_for("taking syslog")["addresses"])
        adapter.wait_for("watching")
        with socket.create_connection(("127.0.0.1", tcp)) as client, open(tmp_path / "fifo", "wb") as fifo:
            send_udp(udp, *[b"by udp"] * 100)
            client.sendall(b"by tcp\n" * 100 + b"no end")
            fifo.write(b"by fifo\n" * 100)
            fifo.flush()
            adapter.process.terminate()
            assert adapter.ended()[0] == 0
    lines = (tmp_path / "out").read_bytes().splitlines()
    assert {line: lines.count(line) for line in lines} == {
        b"by udp": 100, b"by tcp": 100, b"by fifo": 100, b"no end": 1,
    }  # fmt: skip


def test_an_output_that_stalls_stops_the_sender_and_costs_no_memory():
    with Adapter("--syslog=tcp://127.0.0.1:0", "--queue-limit=4MiB", stdout=subprocess.PIPE) as adapter:
        port = int(adapter.wait_for("taking syslog")["addresses"][0].rpartition(":")[2])
        adapter.wait_for("watching")
        before = adapter.memory
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.settimeout(0.5)
            sent = 0
            with contextlib.suppress(TimeoutError):
                while sent < 200 << 20:
                    sent += client.send(b"x" * 999 + b"\n")
            assert sent < 50 << 20
            assert adapter.metric("adapter_queue_bytes") <= 4 << 20
            assert adapter.memory - before < 40
            client.shutdown(socket.SHUT_WR)
            assert adapter.process.stdout is not None
            received = 0
            while received < sent:
                received += len(os.read(adapter.process.stdout.fileno(), 1 << 20))
        adapter.until(lambda: adapter.metric("adapter_queue_bytes") == 0)


def test_a_taken_port_ends_the_program_with_wrong_settings():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with Adapter(f"--syslog={url}") as adapter:
            code, _ = adapter.ended()
    assert code == 2
    assert f"cannot listen on --syslog {url}: Address already in use; give a free one" in "\n".join(adapter.lines)
