"""Redis mode against real servers, met as applications meet it: redis-py as it is, redis-cli, and bytes."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from sidecars.ambassador.redis.commands import COMMANDS
from sidecars.ambassador.redis.ring import Node, Ring, node_name
from sidecars.ambassador.settings import Upstream
from tests.servers.ambassador import configured, running
from tests.servers.redis_server import PATIENCE, RedisServer, needs_redis

pytestmark = needs_redis

PLAIN, SHORT, LOGIN, TAGLESS = "plain", "short", "login", "tagless"
ACL = ("--user", "shard", "on", ">up", "~*", "&*", "+@all", "--user", "default", "off")


class Rig:
    """Two shards, an ambassador before them with several listeners, and which key is where."""

    def __init__(self, folder: Path, servers: list[RedisServer]) -> None:
        self.servers = servers
        self.folder = folder

        def listener(name: str, servers: list[RedisServer], **settings: Any) -> dict[str, Any]:
            upstreams = [{"address": server.path} for server in servers]
            return {"listen": str(folder / name), "upstreams": upstreams, "redis": settings}

        for name in ("up", "down"):
            (folder / name).write_text(name)
        login = {"user": "shard", "password_file": str(folder / "up"), "client_password_file": str(folder / "down")}
        self.flag = configured(
            folder / "config.json",
            listener(PLAIN, servers[:2], hash_tag="{}", timeout="30s"),
            listener(SHORT, servers[:2], hash_tag="{}", timeout="0.3s"),
            listener(TAGLESS, servers[:2], timeout="30s"),
            listener(LOGIN, servers[2:], timeout="30s", **login),
        )
        nodes = [Node(node_name(Upstream(address=server.path))) for server in servers[:2]]
        self._ring = Ring(nodes, "fnv1a_64", "ketama", b"{}", [True, True])

    def path(self, listener: str = PLAIN) -> str:
        return str(self.folder / listener)

    def key(self, shard: int, prefix: str = "key") -> str:
        """A key of that shard."""
        return next(key for key in (f"{prefix}:{n * n}" for n in range(999)) if self.shard(key) == shard)

    def shard(self, key: str) -> int:
        return self._ring.shard(key.encode())

    def client(self, listener: str = PLAIN, **options: Any) -> redis.Redis:
        return redis.Redis(unix_socket_path=self.path(listener), decode_responses=True, **options)

    def talk(self, listener: str = PLAIN) -> contextlib.closing[Talk]:
        return contextlib.closing(Talk(self.path(listener)))


class Talk:
    """A client that writes what it likes, and reads reply by reply."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE)
        self._socket.connect(path)
        self._replies: IO[bytes] = self._socket.makefile("rb")

    def close(self) -> None:
        self._replies.close()
        self._socket.close()

    def send(self, *lines: str) -> None:
        """Send commands, all in one piece."""
        words = [line.encode().split() for line in lines]
        frames = [b"*%d\r\n" % len(each) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in each) for each in words]
        self._socket.sendall(b"".join(frames))

    def ask(self, *lines: str) -> list[Any]:
        """The replies to some commands."""
        self.send(*lines)
        return [self.reply() for _ in lines]

    def reply(self) -> Any:
        """One reply: text, a number, None, a list, or an error as `-ERR ...`."""
        line = self._replies.readline().rstrip(b"\r\n").decode()
        if not line:
            raise EOFError
        sign, rest = line[0], line[1:]
        if sign in "$=":
            return None if rest == "-1" else self._replies.read(int(rest) + 2)[:-2].decode()
        if sign in "*~>":
            return None if rest == "-1" else [self.reply() for _ in range(int(rest))]
        if sign == "%":
            return {self.reply(): self.reply() for _ in range(int(rest))}
        return int(rest) if sign == ":" else None if sign == "_" else line if sign == "-" else rest

    def ended(self) -> bool:
        """Whether it is closed, once it is."""
        return self._replies.read(1) == b""


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(RedisServer(*words)) for words in ((), (), ACL)]
        rig = Rig(tmp_path_factory.mktemp("rig"), servers)
        stack.enter_context(running(rig.flag))
        yield rig


@pytest.fixture(params=[2, 3], ids=["RESP2", "RESP3"])
def client(rig: Rig, request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    """redis-py as it is; both shards are empty."""
    with rig.client(protocol=request.param) as client:
        client.flushdb()
        yield client


def until(happened: Callable[[], Any]) -> None:
    """Wait until something is so."""
    event = threading.Event()
    for _ in range(int(PATIENCE / 0.005)):
        if happened():
            return
        event.wait(0.005)
    raise AssertionError("did not happen")


def test_commands_of_one_key_do_as_on_one_server(client: redis.Redis) -> None:
    for number in range(50):
        key = f"many:{number}"
        assert client.set(key, number) and client.get(key) == str(number)
        assert client.rpush(f"list:{number}", 1, 2, 3) == 3
        assert client.lrange(f"list:{number}", 0, -1) == ["1", "2", "3"]
    assert client.hset("hash", mapping={"a": 1, "b": 2}) == 2
    assert client.hgetall("hash") == {"a": "1", "b": "2"}
    assert client.zadd("sorted", {"a": 1, "b": 2.5}) == 2
    assert client.zscore("sorted", "b") == 2.5
    assert client.xlen("stream") == 0 and client.xadd("stream", {"field": "value"})
    assert list(client.hscan_iter("hash")) == [("a", "1"), ("b", "2")]
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        client.incr("hash")


def test_commands_of_several_shards_are_put_together(rig: Rig, client: redis.Redis) -> None:
    keys = [rig.key(shard, prefix) for prefix in "abcde" for shard in (1, 0)]
    assert client.mset({key: key.upper() for key in keys})
    assert client.mget(*keys, "none", keys[0]) == [*map(str.upper, keys), None, keys[0].upper()]
    assert client.exists(*keys, "none") == client.touch(*keys) == client.dbsize() == 10
    assert sorted(client.keys("*")) == sorted(client.scan_iter(count=2)) == sorted(keys)
    assert client.randomkey() in keys
    assert client.unlink(*keys[:4]) == 4 and client.delete(*keys) == 6
    assert client.flushdb() and client.dbsize() == 0 and client.randomkey() is None
    assert [server.client().dbsize() for server in rig.servers[:2]] == [0, 0]


def test_keys_of_several_shards_are_an_error_where_no_shard_can_answer_rightly(rig: Rig, client: redis.Redis) -> None:
    one, other = rig.key(0), rig.key(1)
    client.sadd(one, "a")
    client.sadd(other, "b")
    for words in (
        ("SUNION", one, other), ("RENAME", one, other), ("EVAL", "return 1", 2, one, other),
        ("MSETNX", one, 1, other, 2), ("BLPOP", one, other, 0), ("SMOVE", one, other, "a"),
    ):  # fmt: skip
        with pytest.raises(redis.ResponseError, match="several shards"):
            client.execute_command(*words)
    client.sadd("{t}1", "a")
    client.sadd("{t}2", "b")
    assert sorted(client.sunion("{t}1", "{t}2")) == ["a", "b"]


REFUSED = [
    "CLUSTER INFO", "CLIENT TRACKING ON", "CLIENT REPLY OFF", "CONFIG SET save x", "DEBUG SLEEP 0", "EVAL x 0",
    "FLUSHALL", "KEYSX *", "MIGRATE h 1 k 0 1", "MONITOR", "MOVE k 1", "SELECT 1", "SHUTDOWN", "SORT k BY w_*",
    "WAIT 1 1", "ACL LIST", "SCRIPT KILL", "MEMORY DOCTOR", "COPY a a DB 1", "SYNC", "EXEC", "GET",
]  # fmt: skip


def test_what_is_not_served_is_an_error_and_the_connection_lives_on(rig: Rig) -> None:
    with rig.talk() as talk:
        lines = [line for refused in REFUSED for line in (refused, "ECHO after")]
        replies = talk.ask("SET k 1", *lines, "GET k")
        assert replies[0] == "OK" and replies[-1] == "1"
        assert all(reply.startswith("-ERR ") for reply in replies[1:-1:2]), replies
        assert set(replies[2:-1:2]) == {"after"}


def test_handshakes_are_answered(rig: Rig) -> None:
    with rig.talk() as talk:
        hello = talk.ask("HELLO 3 SETNAME me")[0]
        assert (hello["server"], hello["proto"], hello["mode"]) == ("redis", 3, "standalone")
        assert talk.ask("CLIENT SETINFO LIB-NAME x", "CLIENT GETNAME", "SELECT 0", "PING", "ECHO a", "GET none") == [
            "OK", "me", "OK", "PONG", "a", None,
        ]  # fmt: skip
        assert talk.ask("COMMAND COUNT")[0] > 200 and "shards:2" in talk.ask("INFO")[0]
        assert talk.ask("RESET", "CLIENT GETNAME", "GET none") == ["RESET", None, None]
        assert talk.ask("SET k v", "GET k", "QUIT") == ["OK", "v", "OK"] and talk.ended()


def test_a_client_is_nobody_before_it_has_given_the_password(rig: Rig) -> None:
    with rig.talk(LOGIN) as talk:
        noauth = "-NOAUTH Authentication required."
        assert talk.ask("GET k", "PING", "MULTI", "BLPOP k 0", "SUBSCRIBE c") == [noauth] * 5
        assert talk.ask("AUTH up", "GET k", "AUTH down", "SET k 1", "GET k") == [
            "-ERR invalid password", noauth, "OK", "OK", "1",
        ]  # fmt: skip
    for protocol in (2, 3):
        with rig.client(LOGIN, password="down", protocol=protocol) as client:
            assert client.get("k") == "1"
            with client.pipeline() as pipeline:
                assert pipeline.incr("k").decr("k").execute() == [2, 1]
        # What redis-py has been refused, it tries again by itself: not here.
        options: dict[str, Any] = {"protocol": protocol, "retry": Retry(NoBackoff(), 0)}
        with rig.client(LOGIN, password="wrong", **options) as client, pytest.raises(redis.AuthenticationError):
            client.ping()


# Transactions.


def test_a_transaction_is_on_the_shard_of_its_first_key(rig: Rig, client: redis.Redis) -> None:
    for shard in (0, 1):
        key = rig.key(shard)
        with client.pipeline() as pipeline:
            assert pipeline.set(key, 1).incr(key).ping().get(key).execute() == [True, 2, True, "2"]
        assert rig.servers[shard].client().get(key) == "2"


def test_a_transaction_of_two_shards_is_aborted_as_a_whole(rig: Rig, client: redis.Redis) -> None:
    one, other = rig.key(0), rig.key(1)
    with client.pipeline() as pipeline, pytest.raises(redis.ResponseError, match="a transaction is on one shard"):
        pipeline.set(one, 1).set(other, 1).set(one, 2).execute()
    assert client.mget(one, other) == [None, None]


def test_a_transaction_fails_when_what_it_has_watched_has_changed(rig: Rig, client: redis.Redis) -> None:
    key, other = rig.key(0), rig.key(1)
    client.mset({key: 1, other: 5})
    with client.pipeline() as pipeline:
        pipeline.watch(key)
        # Between WATCH and MULTI keys of any shard can be read.
        assert (pipeline.get(key), pipeline.get(other), pipeline.mget(key, other)) == ("1", "5", ["1", "5"])
        rig.servers[0].client().incr(key)
        pipeline.multi()
        with pytest.raises(redis.WatchError):
            pipeline.set(key, 9).execute()
        pipeline.watch(key)
        pipeline.multi()
        assert pipeline.incr(key).execute() == [3]
        pipeline.watch(key)
        client.incr(key)
        pipeline.unwatch()
        pipeline.multi()
        assert pipeline.incr(key).execute() == [5]


def test_transactions_do_what_redis_does(rig: Rig) -> None:
    one, other = rig.key(0), rig.key(1)
    aborted = "-EXECABORT Transaction discarded because of previous errors."
    with rig.talk() as talk:
        assert talk.ask("MULTI", "EXEC", "MULTI", "PING", "ECHO a", "EXEC") == [
            "OK", [], "OK", "QUEUED", "QUEUED", ["PONG", "a"],
        ]  # fmt: skip
        assert talk.ask("MULTI", "PING", f"SET {one} 1", f"GET {one}", "EXEC", f"GET {one}") == [
            "OK", "QUEUED", "QUEUED", "QUEUED", ["PONG", "OK", "1"], "1",
        ]  # fmt: skip
        assert talk.ask("MULTI", f"SET {one} 2", "DISCARD", "MULTI", "DISCARD", f"GET {one}", "EXEC", "DISCARD") == [
            "OK", "QUEUED", "OK", "OK", "OK", "1", "-ERR EXEC without MULTI", "-ERR DISCARD without MULTI",
        ]  # fmt: skip
        replies = talk.ask("MULTI", f"SET {one} 2", "MULTI", f"WATCH {one}", f"SET {one} 3", "EXEC")
        assert replies[2:] == [
            "-ERR MULTI calls can not be nested", "-ERR WATCH inside MULTI is not allowed", "QUEUED", ["OK", "OK"],
        ]  # fmt: skip
        for wrong in ("GET", "NOTHING", "SELECT 0", "DBSIZE", "SUBSCRIBE c", "FLUSHALL", f"SUNION {one} {other}"):
            for lines in (["MULTI", wrong, f"SET {one} 9", "EXEC"], ["MULTI", f"SET {one} 9", wrong, "EXEC"]):
                replies = talk.ask(*lines)
                assert replies[3] == aborted and sum(reply[0] == "-" for reply in replies) == 2, (wrong, replies)
        assert talk.ask(f"INCR {one}") == [4]
        # An error of the server's own, when it runs: the rest is done.
        assert talk.ask("MULTI", f"LPUSH {one} a", f"INCR {one}", "EXEC")[3][1] == 5
        assert talk.ask("MULTI", f"BLPOP {one}l 0", "EXEC")[2] in ([None], aborted)
        assert talk.ask("UNWATCH", f"WATCH {one}", f"WATCH {other}")[2].startswith("-CROSSSLOT")
        assert talk.ask("UNWATCH", "MULTI", f"GET {other}", "RESET", f"GET {one}") == [
            "OK", "OK", "QUEUED", "RESET", "5",
        ]  # fmt: skip
        assert talk.ask("MULTI", f"SET {one} 7", "QUIT") == ["OK", "QUEUED", "OK"] and talk.ended()
    assert rig.servers[0].client().get(one) == "5"


STEPS = [
    "MULTI", "MULTI", "EXEC", "EXEC", "EXEC", "DISCARD", "WATCH {t}a", "WATCH {t}b {t}c", "UNWATCH", "SET {t}a 1",
    "INCR {t}b", "GET {t}c", "MGET {t}a {t}b", "DEL {t}a", "LPUSH {t}l v", "LPOP {t}l", "BLPOP {t}l 0.01", "GET",
    "PING", "ECHO a", "EXISTS {t}a {t}a", "MSET {t}a 1 {t}b 2", "LPUSH {t}a v", "SET {t}c " + "x" * 70_000, "WATCH",
    "EVAL return{redis.call('incr',KEYS[1])} 1 {t}a", "MULTI x", "EXEC x", "RESET", "SETEX {t}a 1", "NOTHING",
]  # fmt: skip


def test_transactions_and_all_between_are_answered_as_by_one_server(rig: Rig) -> None:
    direct = rig.servers[rig.shard("{t}")].path
    for seed in range(6):
        answers = []
        for path in (rig.path(), direct):
            chosen = random.Random(os.environ.get("SEED", "") + str(seed))
            with contextlib.closing(Talk(path)) as talk:
                talk.ask("DEL {t}a {t}b {t}c {t}l")
                pieces = [chosen.choices(STEPS, k=chosen.choice([1, 1, 2, 10])) for _ in range(15)]
                answers.append(
                    [
                        (step, told(reply))
                        for piece in pieces
                        for step, reply in zip(piece, talk.ask(*piece), strict=True)
                    ]
                )
        assert answers[0] == answers[1], seed


def told(reply: Any) -> Any:
    """The reply, without the words of an error on a command that is not known."""
    return "-ERR unknown" if str(reply).startswith("-ERR unknown") else reply


# Blocking commands.


def blocked(rig: Rig) -> int:
    return sum(server.client().info("clients")["blocked_clients"] for server in rig.servers[:2])


def test_a_client_waits_until_there_is_something(rig: Rig, client: redis.Redis) -> None:
    key = rig.key(1, "list")
    with rig.client() as waiting:
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.append(waiting.blpop([key], timeout=0)))
        thread.start()
        until(lambda: blocked(rig) == 1)
        client.rpush(key, "first", "second")
        thread.join(PATIENCE)
    assert found == [(key, "first")] and client.lpop(key) == "second"


def test_a_command_may_block_longer_than_an_answer_may_take(rig: Rig) -> None:
    with rig.talk(SHORT) as talk:
        assert talk.ask("BLPOP none 0.6", "PING") == [None, "PONG"]
        talk.send("XREAD BLOCK 600 STREAMS none 0", "GET none", "BZPOPMIN none 0.1", "XREAD STREAMS none 0")
        assert [talk.reply() for _ in range(4)] == [None] * 4


def test_a_client_that_has_gone_takes_nothing(rig: Rig) -> None:
    key = rig.key(0, "list")
    for lines in ([f"BLPOP {key} 0"], [f"BLPOP {key} 0", "PING"]):
        with rig.talk() as talk:
            talk.send(*lines)
            until(lambda: blocked(rig) == 1)
        until(lambda: blocked(rig) == 0)
    with rig.talk() as talk:
        assert talk.ask(f"RPUSH {key} a", f"LLEN {key}", f"DEL {key}") == [1, 1, 1]


# Subscriptions.


def heard(subscription: Any, count: int) -> list[tuple[str, str, Any]]:
    found = []
    while len(found) < count and (message := subscription.get_message(timeout=PATIENCE)):
        found.append((message["type"], message["channel"], message["data"]))
    return found


def test_what_is_published_is_heard_once_by_channel_and_by_pattern(rig: Rig, client: redis.Redis) -> None:
    channels = [rig.key(shard, prefix) for prefix in "abc" for shard in (0, 1)]
    with client.pubsub() as subscription:
        subscription.subscribe(*channels)
        subscription.psubscribe("x*", "y*")
        expected = [("subscribe", channel, at) for at, channel in enumerate(channels, 1)]
        assert heard(subscription, 8) == [*expected, ("psubscribe", "x*", 7), ("psubscribe", "y*", 8)]
        said = [*channels, *(rig.key(shard, "x") for shard in (0, 1)), rig.key(1, "y")]
        assert [client.publish(channel, "hello") for channel in said] == [1] * 9
        assert sorted(channel for _, channel, _ in heard(subscription, 9)) == sorted(said)
        assert sorted(client.pubsub_channels("*")) == sorted(channels)
        assert client.pubsub_numsub(*channels[:2]) == [(channels[0], 1), (channels[1], 1)]
        assert client.pubsub_numpat() == 2
        subscription.unsubscribe()
        subscription.punsubscribe()
        assert [at for _, _, at in heard(subscription, 8)] == [7, 6, 5, 4, 3, 2, 1, 0]
        assert [client.publish(channel, "hello") for channel in said] == [0] * 9


def test_what_happens_to_keys_is_told_by_every_shard(rig: Rig) -> None:
    for server in rig.servers[:2]:
        server.client().config_set("notify-keyspace-events", "KEA")
    with rig.talk() as talk, rig.talk() as writer:
        assert talk.ask("SUBSCRIBE __keyevent@0__:set") == [["subscribe", "__keyevent@0__:set", 1]]
        for shard in (0, 1):
            assert writer.ask(f"SET {rig.key(shard)} 1") == ["OK"]
            assert talk.reply() == ["message", "__keyevent@0__:set", rig.key(shard)]
    for server in rig.servers[:2]:
        server.client().config_set("notify-keyspace-events", "")


def test_a_subscribed_client_is_answered_as_redis_answers_it(rig: Rig) -> None:
    with rig.talk() as talk:
        assert talk.ask("UNSUBSCRIBE", "PING", "SUBSCRIBE a", "PING", "PING x", "UNSUBSCRIBE b") == [
            ["unsubscribe", None, 0], "PONG", ["subscribe", "a", 1], ["pong", ""], ["pong", "x"],
            ["unsubscribe", "b", 1],
        ]  # fmt: skip
        assert talk.ask("GET a")[0].startswith("-ERR Can't execute 'get': only (P|S)SUBSCRIBE")
        assert talk.ask("SSUBSCRIBE s", "SUNSUBSCRIBE", "UNSUBSCRIBE a", "SET a 1", "GET a") == [
            ["ssubscribe", "s", 1], ["sunsubscribe", "s", 0], ["unsubscribe", "a", 0], "OK", "1",
        ]  # fmt: skip
        # Two replies to one command.
        talk.send("SUBSCRIBE a b", "RESET", "GET a", "SUBSCRIBE c", "QUIT")
        assert [talk.reply() for _ in range(6)] == [
            ["subscribe", "a", 1], ["subscribe", "b", 2], "RESET", "1", ["subscribe", "c", 1], "OK",
        ]  # fmt: skip
        assert talk.ended()


def test_with_resp3_a_subscribed_client_can_do_other_things(rig: Rig) -> None:
    with rig.talk() as talk, rig.talk() as writer:
        talk.ask("HELLO 3")
        assert talk.ask("SUBSCRIBE a", "SET k 1", "GET k", "MGET k k", "PING") == [
            ["subscribe", "a", 1], "OK", "1", ["1", "1"], "PONG",
        ]  # fmt: skip
        assert talk.ask("MULTI")[0].startswith("-ERR unknown or unsupported command 'MULTI'")
        assert writer.ask("PUBLISH a " + "x" * 300_000) == [1]
        assert talk.reply() == ["message", "a", "x" * 300_000]
        assert talk.ask("GET k") == ["1"]


# Scripts.


def test_scripts_are_on_every_shard_and_run_on_that_of_their_keys(rig: Rig, client: redis.Redis) -> None:
    script = client.register_script("return redis.call('SET', KEYS[1], ARGV[1])")
    client.script_flush()
    with pytest.raises(redis.exceptions.NoScriptError):
        client.evalsha(script.sha, 1, "k", "v")
    for shard in (0, 1):
        assert script(keys=[rig.key(shard)], args=["value"]) == "OK"
        assert rig.servers[shard].client().get(rig.key(shard)) == "value"
    assert client.script_exists(script.sha, "0" * 40) == [True, False]
    rig.servers[1].client().script_flush()
    assert client.script_exists(script.sha) == [False]
    with pytest.raises(redis.ResponseError, match="without keys"):
        client.eval("return 1", 0)
    library = "#!lua name=mine\nredis.register_function('mine', function(keys) return keys[1] end)"
    assert client.function_load(library, replace=True) == "mine"
    assert [client.fcall("mine", 1, rig.key(shard)) for shard in (0, 1)] == [rig.key(0), rig.key(1)]
    assert client.function_delete("mine")


# Other clients.


def test_redis_cli_works(rig: Rig) -> None:
    lines = b"SET cli 1\nINCR cli\nMULTI\nINCR cli\nEXEC\nHELLO 3\nHGETALL none\nNOTHING\nCLIENT GETNAME\n"
    words = ["redis-cli", "-s", rig.path(), "--no-raw"]
    said = subprocess.run(words, input=lines, stdout=subprocess.PIPE, timeout=PATIENCE, check=True).stdout.decode()
    assert said.startswith("OK\n(integer) 2\nOK\nQUEUED\n1) (integer) 3\n") and "proto" in said
    assert re.search(r"\(error\) ERR unknown or unsupported command 'NOTHING'.*\n\(nil\)\n$", said), said


def test_redis_benchmark_works(rig: Rig) -> None:
    words = ["redis-benchmark", "-s", rig.path(), "-n", "200", "-c", "10", "-P", "4", "-q", "-r", "100"]
    said = subprocess.run(
        [*words, "-t", "ping,set,get,incr,lpush,rpop,sadd,hset,spop,zadd,zpopmin,lrange_100,mset"],
        capture_output=True, timeout=PATIENCE, check=True, text=True,
    )  # fmt: skip
    assert said.stdout.count("requests per second") == 15, said
    assert "Error" not in said.stdout + said.stderr


# Failures.


WORDS = ["{t}a", "1", "2", "0", "-1", "STREAMS", "STORE", "LOAD", "EXISTS", "NUMSUB", "*", "3", "AUTH", "GET", "INFO"]


def test_whatever_a_client_sends_others_are_served(rig: Rig) -> None:
    chosen = random.Random(os.environ.get("SEED", "anything"))
    names = sorted(name.decode() for name in COMMANDS) + ["MULTI", "WATCH", "SUBSCRIBE", "NOTHING"] * 5
    with rig.talk() as other:
        for _ in range(150):
            some = chosen.choices(names, k=20)
            with rig.talk() as talk:
                talk.send("PING", *(" ".join([name, *chosen.choices(WORDS, k=chosen.randrange(5))]) for name in some))
                if chosen.random() < 0.7:
                    assert talk.reply() == "PONG"
        assert other.ask("SET k 1", "MULTI", "GET k", "EXEC")[3] == ["1"]


def test_what_a_lost_shard_was_doing_fails_and_the_rest_goes_on(tmp_path: Path) -> None:
    with RedisServer() as one, RedisServer() as other:
        rig = Rig(tmp_path, [one, other, other])
        key, there = rig.key(0), rig.key(1)
        with running(rig.flag), rig.talk() as multi, rig.talk() as watch, rig.talk() as wait, rig.talk() as listen:
            assert multi.ask("MULTI", f"SET {key} 1") == ["OK", "QUEUED"]
            assert watch.ask(f"WATCH {key}") == ["OK"]
            assert listen.ask(f"SUBSCRIBE {key}", f"SUBSCRIBE {there}")
            wait.send(f"BLPOP {key} 0")
            until(lambda: one.client().info("clients")["blocked_clients"])
            one.kill()
            assert wait.reply() == "-ERR Connection reset by peer"
            assert listen.ended()
            aborted = "-EXECABORT Transaction discarded because of previous errors."
            assert multi.ask(f"SET {key} 2", "EXEC", f"GET {there}")[1:] == [aborted, None]
            assert watch.ask("MULTI", f"SET {there} 2", "EXEC", f"GET {there}") == ["OK", "QUEUED", aborted, None]
            assert wait.ask(f"SET {there} 1", "MULTI", f"GET {there}", "EXEC")[3] == ["1"]
            one.restart()
            until(lambda: wait.ask("MULTI", f"GET {key}", "EXEC")[2] == [None])


def test_who_waits_where_nothing_will_come_any_more_is_told(tmp_path: Path) -> None:
    with RedisServer() as old, RedisServer() as new:
        config, path = tmp_path / "config.json", str(tmp_path / "socket")

        def to(*servers: RedisServer) -> str:
            return configured(
                config, {"listen": path, "upstreams": [{"address": s.path} for s in servers], "redis": {}}
            )

        with running(to(old)) as ambassador, contextlib.ExitStack() as stack:
            wait, listen, every, multi = (stack.enter_context(contextlib.closing(Talk(path))) for _ in range(4))
            assert listen.ask("SUBSCRIBE channel") and every.ask("PSUBSCRIBE *")
            assert multi.ask("WATCH k", "MULTI", "SET k 1") == ["OK", "OK", "QUEUED"]
            wait.send("BLPOP list 0")
            until(lambda: old.client().info("clients")["blocked_clients"])
            to(new)
            ambassador.send(signal.SIGHUP)
            assert (
                wait.reply()
                == "-UNBLOCKED force unblock from blocking operation, the keys are on another connection now"
            )
            assert listen.ended() and every.ended()
            assert multi.ask("GET k", "EXEC")[0].startswith("-CROSSSLOT")
            assert wait.ask("SET k 2", "GET k") == ["OK", "2"]
            assert (old.client().get("k"), new.client().get("k")) == (None, "2")
            until(lambda: old.client().info("clients")["blocked_clients"] == 0)
