"""What clients are answered without a shard."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecars.ambassador.redis.answering import State, answer
from sidecars.ambassador.redis.commands import COMMANDS
from sidecars.ambassador.redis.reading import follow
from sidecars.ambassador.settings import Redis
from sidecars.core.units import Secret

LOCAL = sorted(name for name, command in COMMANDS.items() if command.kind == "local")


def client(**settings: Any) -> State:
    return State(SimpleNamespace(settings=Redis(**settings), shards=[1, 2], sessions=[1]), "10.0.0.7:50123")


def ask(state: State, text: str) -> bytes:
    name, *args = text.encode().split()
    return answer(state, name.upper(), args)


PLAIN = [
    ("PING", b"+PONG\r\n"),
    ("PING hello", b"$5\r\nhello\r\n"),
    ("PING a b", b"-ERR wrong number of arguments for 'ping' command\r\n"),
    ("ECHO hello", b"$5\r\nhello\r\n"),
    ("ECHO", b"-ERR wrong number of arguments for 'echo' command\r\n"),
    ("QUIT", b"+OK\r\n"),
    ("SELECT 0", b"+OK\r\n"),
    ("SELECT 1", b"-ERR DB index is out of range; only database 0 is served through the ambassador\r\n"),
    ("SELECT x", b"-ERR value is not an integer or out of range\r\n"),
    ("CLIENT GETNAME", b"$-1\r\n"),
    ("CLIENT SETNAME me", b"+OK\r\n"),
    ("CLIENT SETINFO LIB-NAME redis-py", b"+OK\r\n"),
    ("CLIENT SETINFO lib-ver 8.0", b"+OK\r\n"),
    ("CLIENT SETINFO LIB-AGE 1", b"-ERR Unrecognized option 'LIB-AGE'\r\n"),
    ("CLIENT NO-EVICT ON", b"+OK\r\n"),
    ("CLIENT NO-TOUCH maybe", b"-ERR syntax error\r\n"),
    ("CLIENT TRACKING OFF", b"+OK\r\n"),
    ("CLIENT TRACKING ON", b"-ERR unknown or unsupported command 'CLIENT TRACKING' through the ambassador; "
                           b"what a shared connection has read cannot be told to one client\r\n"),
    ("CLIENT REPLY OFF", b"-ERR unknown or unsupported command 'CLIENT REPLY' through the ambassador; "
                         b"every command is answered\r\n"),
    ("CLIENT KILL ID 3", b"-ERR unknown or unsupported command 'CLIENT KILL' through the ambassador; "
                         b"docs/ambassador.md lists what is served\r\n"),
    ("CLIENT SETNAME", b"-ERR wrong number of arguments for 'client|setname' command\r\n"),
    ("AUTH secret", b"-ERR Client sent AUTH, but no password is set\r\n"),
    ("AUTH default secret", b"+OK\r\n"),
    ("AUTH someone secret", b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"),
    ("AUTH a b c", b"-ERR syntax error\r\n"),
    ("HELLO 4", b"-NOPROTO unsupported protocol version\r\n"),
    ("HELLO x", b"-ERR Protocol version is not an integer or out of range\r\n"),
    ("HELLO 3 AUTH x", b"-ERR Syntax error in HELLO option 'AUTH'\r\n"),
    ("COMMAND GETKEYS MSET a 1 b 2", b"*2\r\n$1\r\na\r\n$1\r\nb\r\n"),
    ("COMMAND GETKEYS PING", b"-ERR The command has no key arguments\r\n"),
    ("COMMAND GETKEYS NO", b"-ERR Invalid command specified\r\n"),
    ("COMMAND INFO get nothing", b"*2\r\n*10\r\n$3\r\nget\r\n:2\r\n*1\r\n+readonly\r\n:1\r\n:1\r\n:1\r\n"
                                 b"*0\r\n*0\r\n*0\r\n*0\r\n*-1\r\n"),
    ("COMMAND DOCS get", b"*2\r\n$3\r\nget\r\n*0\r\n"),
    ("CONFIG GET data*", b"*2\r\n$9\r\ndatabases\r\n$1\r\n1\r\n"),
    ("CONFIG GET save", b"*0\r\n"),
    ("CONFIG SET save x", b"-ERR unknown or unsupported command 'CONFIG SET' through the ambassador; "
                          b"docs/ambassador.md lists what is served\r\n"),
]  # fmt: skip


@pytest.mark.parametrize("text, reply", PLAIN, ids=[text for text, _ in PLAIN])
def test_the_answer_to(text: str, reply: bytes) -> None:
    assert ask(client(), text) == reply


def test_hello_changes_the_protocol_and_says_who_is_there() -> None:
    state = client()
    assert ask(state, "HELLO 3 SETNAME me").startswith(b"%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n")
    assert state.protocol == 3
    assert ask(state, "CLIENT GETNAME") == b"$2\r\nme\r\n"
    assert ask(state, "HELLO").startswith(b"%7\r\n")
    assert ask(state, "HELLO 2").startswith(b"*14\r\n")
    assert ask(state, "RESET") == b"+RESET\r\n"
    assert (state.protocol, state.name) == (2, b"")


def test_a_client_logs_in_with_the_password_as_with_twemproxy() -> None:
    state = client(client_password=Secret("hunter2"))
    assert not state.authenticated
    assert ask(state, "AUTH hunter3") == b"-ERR invalid password\r\n"
    assert ask(state, "AUTH hunter2") == b"+OK\r\n"
    assert state.authenticated
    assert ask(state, "AUTH hunter3") == b"-ERR invalid password\r\n"
    assert not state.authenticated


def test_a_client_logs_in_as_the_user_it_must_name() -> None:
    state = client(client_password=Secret("hunter2"), client_user="app")
    wrong = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"
    assert [ask(state, f"AUTH {words}") for words in ("hunter2", "default hunter2", "app hunter3")] == [wrong] * 3
    assert not state.authenticated
    assert ask(state, "AUTH app hunter2") == b"+OK\r\n"
    assert state.authenticated


def test_hello_logs_in_and_is_refused_without() -> None:
    state = client(client_password=Secret("hunter2"))
    assert ask(state, "HELLO 3").startswith(b"-NOAUTH HELLO must be called with")
    assert ask(state, "HELLO 3 AUTH default hunter3").startswith(b"-WRONGPASS")
    assert (state.protocol, state.authenticated) == (2, False)
    assert ask(state, "HELLO 3 AUTH default hunter2").startswith(b"%7")
    assert (state.protocol, state.authenticated) == (3, True)


def test_a_password_that_has_changed_in_its_file_counts_at_once(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("one")
    state = client(client_password=Secret(file=str(file)))
    assert ask(state, "AUTH one") == b"+OK\r\n"
    (tmp_path / "new").write_text("two")
    (tmp_path / "new").rename(file)
    assert ask(state, "AUTH one") == b"-ERR invalid password\r\n"
    assert ask(state, "AUTH two") == b"+OK\r\n"


def test_info_tells_of_the_ambassador_by_section() -> None:
    whole, one = ask(client(), "INFO"), ask(client(), "INFO ambassador")
    assert b"# Ambassador\r\nshards:2\r\n" in whole and b"loading:0\r\n" in whole and b"role:master\r\n" in whole
    assert b"shards:2" in one and b"loading" not in one
    assert b"shards:2" in ask(client(), "INFO everything") and ask(client(), "INFO keyspace") == b"$0\r\n\r\n"


def test_what_a_client_says_of_itself_does_no_harm() -> None:
    state = client()
    assert answer(state, b"CLIENT", [b"SETNAME", b"a b"]).startswith(b"-ERR Client names cannot contain")
    assert answer(state, b"CLIENT", [b"SETINFO", b"LIB-NAME", b"a\nb"]).startswith(b"-ERR lib-name cannot contain")
    assert answer(state, b"HELLO", [b"3", b"SETNAME", b"a\r\n"]).startswith(b"-ERR Client names")
    assert b"addr=10.0.0.7:50123 name= " in ask(state, "CLIENT INFO")


WORDS = st.one_of(st.sampled_from(
    [b"GET", b"SETNAME", b"3", b"2", b"AUTH", b"INFO", b"DOCS", b"LIST", b"COUNT", b"GETKEYS", b"*", b"ON", b"default"]
), st.binary(max_size=10))  # fmt: skip


@given(name=st.sampled_from(LOCAL), args=st.lists(WORDS, max_size=5), protocol=st.sampled_from([2, 3]))
def test_every_answer_is_one_reply(name: bytes, args: list[bytes], protocol: int) -> None:
    state = client()
    state.protocol = protocol
    reply = answer(state, name, args)
    part = follow(reply, 0)
    assert (part.at, part.left) == (len(reply), 0)
    if state.protocol == 2:
        assert not any(line[:1] in b"%~_=,#(" for line in reply.split(b"\r\n")[:1] if line)
