"""Where the keys of commands stand, and which are refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecars.ambassador.redis.commands import COMMANDS, WrongArguments, blocks, keys, longest, shown, unsupported
from tests.unit.core.running import PATIENCE


def split(text: str) -> tuple[bytes, list[bytes]]:
    name, *args = text.encode().split()
    return name.upper(), args


@pytest.mark.parametrize(
    "text, expected",
    [
        ("GET a", "a"),
        ("SET a b NX", "a"),
        ("DEL a b c", "a b c"),
        ("MGET a", "a"),
        ("MSET a 1 b 2", "a b"),
        ("MSETNX a 1 b 2", "a b"),
        ("JSON.MSET a $ 1 b $ 2", "a b"),
        ("JSON.MGET a b $", "a b"),
        ("BITOP AND d a b", "d a b"),
        ("BITOP NOT d a", "d a"),
        ("RENAME a b", "a b"),
        ("LCS a b LEN", "a b"),
        ("COPY a b REPLACE", "a b"),
        ("OBJECT ENCODING a", "a"),
        ("XINFO CONSUMERS a g", "a"),
        ("XGROUP CREATE a g $ MKSTREAM", "a"),
        ("MEMORY USAGE a SAMPLES 0", "a"),
        ("PUBLISH channel text", "channel"),
        ("ZUNION 2 a b WEIGHTS 1 2", "a b"),
        ("ZUNIONSTORE d 2 a b WEIGHTS 1 2", "d a b"),
        ("ZINTERCARD 1 a LIMIT 2", "a"),
        ("MSETEX 2 a 1 b 2 EX 10", "a b"),
        ("CMS.MERGE d 2 a b WEIGHTS 1 2", "d a b"),
        ("LMPOP 2 a b LEFT", "a b"),
        ("BLMPOP 0 2 a b LEFT", "a b"),
        ("BLPOP a b 0", "a b"),
        ("BLMOVE a b LEFT RIGHT 0", "a b"),
        ("BRPOPLPUSH a b 0", "a b"),
        ("EVAL return 2 a b c", "a b"),
        ("FCALL_RO f 1 a", "a"),
        ("XREAD COUNT 2 BLOCK 0 STREAMS a b 0 $", "a b"),
        ("XREADGROUP GROUP streams streams NOACK STREAMS a >", "a"),
        ("SORT a BY nosort GET # LIMIT 0 5 STORE d", "a d"),
        ("SORT a ALPHA DESC", "a"),
        ("SORT_RO a", "a"),
        ("GEORADIUS a 1 2 3 km STORE d STOREDIST e", "a d e"),
        ("GEORADIUSBYMEMBER a m 3 km STORE d", "a d"),
        ("GEOSEARCHSTORE d a FROMMEMBER m BYRADIUS 1 km", "d a"),
        ("WATCH a b", "a b"),
        ("MULTI", ""),
        ("PING", ""),
        ("KEYS *", ""),
        ("SSUBSCRIBE a b", "a b"),
        ("SUNSUBSCRIBE", ""),
    ],
)
def test_the_keys_of(text: str, expected: str) -> None:
    name, args = split(text)
    assert keys(COMMANDS[name], args) == expected.encode().split()


@pytest.mark.parametrize(
    "text, error",
    [
        ("GET", "ERR wrong number of arguments for 'get' command"),
        ("GET a b", "ERR wrong number of arguments for 'get' command"),
        ("MSET a", "ERR wrong number of arguments for 'mset' command"),
        ("MSET a 1 b", "ERR wrong number of arguments for 'mset' command"),
        ("OBJECT HELP", "ERR wrong number of arguments for 'object' command"),
        ("ZUNION x a", "ERR value is not an integer or out of range"),
        ("ZUNION 0 a", "ERR numkeys should be greater than 0"),
        ("ZUNION 3 a", "ERR syntax error"),
        ("ZUNION 99999999999999999999 a", "ERR value is not an integer or out of range"),
        ("EVAL s -1", "ERR Number of keys can't be negative"),
        ("EVAL s 2 a", "ERR Number of keys can't be greater than number of args"),
        ("EVAL s 0", "ERR EVAL without keys cannot be sent to a shard through the ambassador; "
                     "name a key of the shard that is meant"),
        ("XREAD STREAMS a b 0", "ERR Unbalanced 'xread' list of streams: "
                                "for each stream key an ID or '$' must be specified."),
        ("XREAD COUNT 1 BLOCK", "ERR syntax error"),
        ("SORT a BY w_* GET #", "ERR SORT with a pattern in BY or GET is not served through the ambassador; "
                                "the keys it stands for are on several shards"),
        ("COPY a b DB 1", "ERR unknown or unsupported command 'COPY DB' through the ambassador; "
                          "only database 0 is served"),
        ("MEMORY DOCTOR", "ERR unknown or unsupported command 'MEMORY DOCTOR' through the ambassador; "
                          "it is about one server: ask that shard itself"),
    ],
)  # fmt: skip
def test_what_cannot_be_served_says_why(text: str, error: str) -> None:
    name, args = split(text)
    with pytest.raises(WrongArguments) as refused:
        keys(COMMANDS[name], args)
    assert str(refused.value) == error


def test_the_error_for_a_command_that_is_not_known_is_one_line_of_ascii() -> None:
    text = str(unsupported(b"FO\r\n\x00\xff'" + b"x" * 100_000))
    assert text.isascii() and text.isprintable() and len(text) < 400
    assert shown(b"GETT") == "'GETT'"


@pytest.mark.parametrize(
    "text, waits, seconds",
    [
        ("BLPOP a 2.5", True, 2.5),
        ("BLPOP a 0", True, 0),
        ("BLPOP a x", True, 0),
        ("BLPOP a nan", True, 0),
        ("BLMPOP 1.5 1 a LEFT", True, 1.5),
        ("XREAD STREAMS a 0", False, 0),
        ("XREAD STREAMS BLOCK 0", False, 0),
        ("XREAD BLOCK 250 STREAMS a 0", True, 0.25),
        ("XREADGROUP GROUP block block STREAMS a >", False, 0),
        ("XREADGROUP GROUP block block COUNT 1 block 0 STREAMS a >", True, 0),
    ],
)
def test_how_long_a_command_may_wait(text: str, waits: bool, seconds: float) -> None:
    name, args = split(text)
    assert blocks(COMMANDS[name], args) is waits
    assert longest(COMMANDS[name], args) == seconds


@given(name=st.sampled_from(sorted(COMMANDS)), args=st.lists(st.sampled_from(
    [b"a", b"1", b"2", b"-1", b"STREAMS", b"BLOCK", b"STORE", b"BY", b"GET", b"GROUP", b"DB", b"", b"USAGE"]
), max_size=8))  # fmt: skip
def test_no_arguments_are_too_strange(name: bytes, args: list[bytes]) -> None:
    try:
        found = keys(COMMANDS[name], args)
    except WrongArguments as refused:
        assert str(refused).startswith("ERR ")
    else:
        assert all(key in args for key in found)
        assert found or COMMANDS[name].first == 0 or COMMANDS[name].kind == "pubsub"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket of a real server."""
    if not shutil.which("redis-server"):
        pytest.skip("NOT PROVEN HERE: needs Debian's redis-server")
    folder = tmp_path_factory.mktemp("redis")
    path = folder / "redis.sock"
    words = ("--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(folder))
    process = subprocess.Popen(["redis-server", *words], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + PATIENCE
        while not path.exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        yield path
    finally:
        process.kill()
        process.wait()


# Where the table says more than COMMAND does, or what a later version says.
ELSEWHERE = {
    b"PUBLISH", b"OBJECT", b"XINFO", b"XGROUP", b"MEMORY",  # their channel, or the key of their subcommands
    b"ZRANK", b"ZREVRANK",  # WITHSCORE, of 7.2
}  # fmt: skip


def test_the_table_is_that_of_the_real_server(server: Path) -> None:
    listed = json.loads(subprocess.check_output(["redis-cli", "-s", str(server), "--json", "COMMAND"]))
    assert len(listed) > 200
    for row in listed:
        name = row[0].upper().encode()
        command = COMMANDS[name]
        if name in ELSEWHERE:
            continue
        assert command.arity == row[1], name
        if command.kind != "refused":
            assert [command.first, command.last, command.step] == row[3:6], name
            assert bool(command.shape) >= ("movablekeys" in row[2]), name
            assert command.flags == "".join({"readonly", "write"} & set(row[2])), name
            assert (command.kind == "blocking") == ("blocking" in row[2]), name


GETKEYS = [
    "MSET a 1 b 2", "BITOP AND d a b", "ZUNIONSTORE d 2 a b", "BLPOP a b 0", "EVAL s 2 a b c",
    "SORT a LIMIT 0 1 STORE d",
    "XREAD COUNT 1 BLOCK 0 STREAMS a b 0 0", "XREADGROUP GROUP g c STREAMS a >", "GEORADIUS a 1 2 3 km STORE d",
    "LMPOP 2 a b LEFT", "BLMPOP 0 2 a b LEFT", "MEMORY USAGE a", "XINFO STREAM a", "LCS a b", "OBJECT ENCODING a",
]  # fmt: skip


def test_the_keys_are_those_that_the_real_server_finds(server: Path) -> None:
    lines = "".join(f"COMMAND GETKEYS {text}\n" for text in GETKEYS)
    answers = subprocess.check_output(["redis-cli", "-s", str(server), "--json"], input=lines.encode())
    found = [json.loads(line) for line in answers.splitlines()]
    mine = [keys(COMMANDS[name], args) for name, args in map(split, GETKEYS)]
    assert found == [[key.decode() for key in each] for each in mine]
