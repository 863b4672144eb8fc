"""What each command needs: where its keys stand, and who answers it.

The table is that of Redis 7.0's COMMAND; what later versions and their modules have is by their documentation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple

Kind = Literal["one", "fan", "every", "local", "pin", "blocking", "pubsub", "refused"]
# one       one shard answers it: all its keys must be of that one. Scripts as well, and PUBLISH, whose channel counts
#           as a key
# fan       its keys may be of several shards; each gets its part, and the replies are put together
# every     it has no key: each shard gets all of it, and the replies are put together
# local     answered here (answering.py)
# pin       the commands of transactions
# blocking  its reply may be long in coming, so that it needs a connection of its own; see blocks()
# pubsub    what begins and ends subscriptions
# refused   not served; `reason` is the error


class Command(NamedTuple):
    """A row of the table.

    arity   how many words it has, its name among them; at least so many, if negative
    first, last, step  which words are keys, as Redis counts them: 1 is the one after the name; a last one below zero
            counts from the end
    shape   what else tells where its keys are, by the name in _SHAPES
    flags   readonly, write or neither, as COMMAND has them
    """

    name: bytes
    kind: Kind
    arity: int
    first: int = 0
    last: int = 0
    step: int = 0
    shape: str = ""
    flags: str = ""
    reason: str = ""


# Where a key lies takes a fraction of a second for each MiB of it, in which nobody else is served.
LONGEST_KEY = 1024 * 1024  # bytes
TOO_LONG = "a key is longer than 1 MiB"
CROSSSLOT = (
    "CROSSSLOT Keys in request don't hash to the same slot: they are on several shards; to keep them on one, set "
    "hash_tag and give them the same tag"
)


class WrongArguments(Exception):  # noqa: N818  (named for what happened)
    """A command that cannot be served; the text is the error to answer, as it stands after the minus sign."""


# kind, flags, first, last, step, shape | name/arity ...
_TABLE = """
one r 1 1 1 - | bitcount/-2 bitfield_ro/-2 bitpos/-3 digest/2 dump/2 expiretime/2 geodist/-4 geohash/-2 geopos/-2
one r 1 1 1 - | georadius_ro/-6 georadiusbymember_ro/-5 geosearch/-7 get/2 getbit/3 getrange/4 hexists/3 hexpiretime/-5
one r 1 1 1 - | hget/3 hgetall/2 hkeys/2 hlen/2 hmget/-3 hpexpiretime/-5 hpttl/-5 hrandfield/-2 hscan/-3 hstrlen/3
one r 1 1 1 - | httl/-5 hvals/2 lindex/3 llen/2 lpos/-3 lrange/4 pexpiretime/2 pttl/2 scard/2 sismember/3 smembers/2
one r 1 1 1 - | smismember/-3 srandmember/-2 sscan/-3 strlen/2 substr/4 ttl/2 type/2 xlen/2 xpending/-3 xrange/-4
one r 1 1 1 - | xrevrange/-4 zcard/2 zcount/4 zlexcount/4 zmscore/-3 zrandmember/-2 zrange/-4 zrangebylex/-4
one r 1 1 1 - | zrangebyscore/-4 zrank/-3 zrevrange/-4 zrevrangebylex/-4 zrevrangebyscore/-4 zrevrank/-3 zscan/-3
one r 1 1 1 - | zscore/3 vcard/2 vdim/2 vemb/-3 vgetattr/3 vinfo/2 vismember/3 vlinks/-3 vrandmember/-2 vrange/-4
one r 1 1 1 - | vsim/-4
one w 1 1 1 - | append/3 bitfield/-2 decr/2 decrby/3 delex/-2 delifeq/3 expire/-3 expireat/-3 geoadd/-5 getdel/2
one w 1 1 1 - | getex/-2 getset/3 hdel/-3 hexpire/-6 hexpireat/-6 hgetdel/-5 hgetex/-5 hincrby/4 hincrbyfloat/4
one w 1 1 1 - | hmset/-4 hpersist/-5 hpexpire/-6 hpexpireat/-6 hset/-4 hsetex/-6 hsetnx/4 incr/2 incrby/3
one w 1 1 1 - | incrbyfloat/3 linsert/5 lpop/-2 lpush/-3 lpushx/-3 lrem/4 lset/4 ltrim/4 persist/2 pexpire/-3
one w 1 1 1 - | pexpireat/-3 pfadd/-2 psetex/4 restore/-4 rpop/-2 rpush/-3 rpushx/-3 sadd/-3 set/-3 setbit/4 setex/4
one w 1 1 1 - | setnx/3 setrange/4 spop/-2 srem/-3 xack/-4 xackdel/-6 xadd/-5 xautoclaim/-6 xclaim/-6 xdel/-3
one w 1 1 1 - | xdelex/-5 xsetid/-3 xtrim/-4 zadd/-4 zincrby/4 zpopmax/-2 zpopmin/-2 zrem/-3 zremrangebylex/4
one w 1 1 1 - | zremrangebyrank/4 zremrangebyscore/4 vadd/-5 vrem/3 vsetattr/4
one r 2 2 1 - | object/-2 xinfo/-2 memory/-2
one w 2 2 1 - | xgroup/-2
one - 1 1 1 - | publish/3 spublish/3
one r 1 -1 1 - | pfcount/-2 sdiff/-2 sinter/-2 sunion/-2
one w 1 -1 1 - | pfmerge/-2 sdiffstore/-3 sinterstore/-3 sunionstore/-3
one w 1 -1 2 - | msetnx/-3
one w 2 -1 1 - | bitop/-4
one r 1 2 1 - | lcs/-3
one w 1 2 1 - | geosearchstore/-8 lmove/5 rename/3 renamenx/3 rpoplpush/3 smove/4 zrangestore/-5
one w 1 2 1 copy | copy/-3
one r 1 1 1 sort | sort_ro/-2
one w 1 1 1 sort | sort/-2
one w 1 1 1 store | georadius/-6 georadiusbymember/-5
one r 0 0 0 count1 | sintercard/-3 zdiff/-3 zinter/-3 zintercard/-3 zunion/-3
one w 0 0 0 count1 | lmpop/-4 zmpop/-4
one w 0 0 0 pairs1 | msetex/-4
one w 1 1 1 count2 | zdiffstore/-4 zinterstore/-4 zunionstore/-4
one - 0 0 0 script | eval/-3 evalsha/-3 fcall/-3
one r 0 0 0 script | eval_ro/-3 evalsha_ro/-3 fcall_ro/-3
fan r 1 -1 1 - | exists/-2 mget/-2 touch/-2
fan w 1 -1 1 - | del/-2 unlink/-2
fan w 1 -1 2 - | mset/-3
every r 0 0 0 - | dbsize/1 keys/2 randomkey/1 scan/-2
every w 0 0 0 - | flushdb/-1
every - 0 0 0 - | function/-2 pubsub/-2 script/-2
local - 0 0 0 - | auth/-2 client/-2 command/-1 config/-2 echo/2 hello/-1 info/-1 ping/-1 quit/-1 reset/1 select/2 time/1
pin - 0 0 0 - | discard/1 exec/1 multi/1 unwatch/1
pin - 1 -1 1 - | watch/-2
blocking w 1 -2 1 - | blpop/-3 brpop/-3 bzpopmax/-3 bzpopmin/-3
blocking w 1 2 1 - | blmove/6 brpoplpush/4
blocking w 0 0 0 count2 | blmpop/-5 bzmpop/-5
blocking r 0 0 0 streams | xread/-4
blocking w 0 0 0 streams | xreadgroup/-7
pubsub - 0 0 0 - | psubscribe/-2 punsubscribe/-1 subscribe/-2 unsubscribe/-1
pubsub - 1 -1 1 - | ssubscribe/-2 sunsubscribe/-1
one r 1 1 1 - | json.arrindex/-4 json.arrlen/-2 json.get/-2 json.objkeys/-2 json.objlen/-2 json.resp/-2 json.strlen/-2
one r 1 1 1 - | json.type/-2 bf.card/2 bf.exists/3 bf.info/-2 bf.mexists/-3 bf.scandump/3 cf.compact/2 cf.count/3
one r 1 1 1 - | cf.exists/3 cf.info/2 cf.mexists/-3 cf.scandump/3 cms.info/2 cms.query/-3 topk.count/-3 topk.info/2
one r 1 1 1 - | topk.list/-2 topk.query/-3 tdigest.byrank/-3 tdigest.byrevrank/-3 tdigest.cdf/-3 tdigest.info/2
one r 1 1 1 - | tdigest.max/2 tdigest.min/2 tdigest.quantile/-3 tdigest.rank/-3 tdigest.revrank/-3
one r 1 1 1 - | tdigest.trimmed_mean/4 ts.get/-2 ts.info/-2 ts.range/-4 ts.revrange/-4
one w 1 1 1 - | json.arrappend/-4 json.arrinsert/-5 json.arrpop/-2 json.arrtrim/5 json.clear/-2 json.del/-2
one w 1 1 1 - | json.forget/-2 json.merge/4 json.numincrby/4 json.nummultby/4 json.set/-4 json.strappend/-3
one w 1 1 1 - | json.toggle/3
one w 1 1 1 - | bf.add/3 bf.insert/-4 bf.loadchunk/4 bf.madd/-3 bf.reserve/-4 cf.add/3 cf.addnx/3 cf.del/3 cf.insert/-4
one w 1 1 1 - | cf.insertnx/-4 cf.loadchunk/4 cf.reserve/-3 cms.incrby/-4 cms.initbydim/4 cms.initbyprob/4 topk.add/-3
one w 1 1 1 - | topk.incrby/-4 topk.reserve/-3 tdigest.add/-3 tdigest.create/-2 tdigest.reset/2 ts.add/-4 ts.alter/-2
one w 1 1 1 - | ts.create/-2 ts.decrby/-3 ts.del/4 ts.incrby/-3
one r 1 -2 1 - | json.mget/-3
one w 1 -1 3 - | json.mset/-4 ts.madd/-4
one w 1 2 1 - | ts.createrule/-6 ts.deleterule/3
one w 1 1 1 count2 | cms.merge/-4 tdigest.merge/-4
"""

_SERVER = "it is about one server: ask that shard itself"
_DATABASE = "only database 0 is served"
_REFUSED = {
    _SERVER: "acl/-2 bgrewriteaof/1 bgsave/-1 debug/-2 failover/-1 lastsave/1 latency/-2 lolwut/-1 module/-2 monitor/1"
    " pfdebug/3 pfselftest/1 psync/-3 replconf/-1 replicaof/3 restore-asking/-4 role/1 save/1 shutdown/-1 slaveof/3"
    " slowlog/-2 sync/1",
    _DATABASE: "move/3 swapdb/3",
    "keys cannot be moved past the ring: DUMP here and RESTORE there": "migrate/-6",
    "the shards are no Redis Cluster": "asking/1 cluster/-2 readonly/1 readwrite/1",
    "writes of many clients share a connection, so that there is no telling whose to wait for": "wait/3 waitaof/4",
    "it would empty databases that are not yours: FLUSHDB empties this one, on every shard": "flushall/-1",
    "it asks for keys by what they hold, and they are on several shards: ask each shard itself": "ts.mget/-3"
    " ts.mrange/-4 ts.mrevrange/-4 ts.queryindex/-2 ft.search/-3 ft.aggregate/-3 ft.create/-4 ft.info/2 ft._list/1",
}

_FLAGS = {"r": "readonly", "w": "write", "-": ""}


def _rows() -> Iterator[Command]:
    for line in _TABLE.split("\n")[1:-1]:
        head, _, names = line.partition(" | ")
        kind, flags, first, last, step, shape = head.split(" ")
        where = int(first), int(last), int(step), shape.strip("-")
        for name, arity in _names(names):
            yield Command(name, kind, arity, *where, _FLAGS[flags])  # type: ignore[arg-type]
    for why, names in _REFUSED.items():
        for name, arity in _names(names):
            yield Command(name, "refused", arity, reason=_reason(name, why))


def _names(text: str) -> Iterator[tuple[bytes, int]]:
    for word in text.split():
        name, _, arity = word.partition("/")
        yield name.upper().encode(), int(arity)


def shown(word: bytes) -> str:
    """Write a word that a client has sent so that it can stand in an error: `'fo\\x00o'`, cut when it is long."""
    return repr(word[:64])[1:].replace('"', "'")


def _reason(name: bytes, why: str) -> str:
    return f"unknown or unsupported command {shown(name)} through the ambassador; {why}"


COMMANDS: dict[bytes, Command] = {command.name: command for command in _rows()}

# Of these families, the rest is about one server.
_SERVED = {
    b"MEMORY": (b"USAGE",),
    b"SCRIPT": (b"LOAD", b"EXISTS", b"FLUSH"),
    b"FUNCTION": (b"LOAD", b"DELETE", b"FLUSH", b"RESTORE", b"LIST"),
    b"PUBSUB": (b"CHANNELS", b"NUMSUB", b"NUMPAT", b"SHARDCHANNELS", b"SHARDNUMSUB"),
}


def unsupported(name: bytes, why: str = "docs/ambassador.md lists what is served") -> WrongArguments:
    """Make the error for a command that is not served."""
    return WrongArguments(f"ERR {_reason(name, why)}")


def keys(command: Command, args: list[bytes]) -> list[bytes]:
    """Give the keys among the arguments of a command, in their order.

    Raises WrongArguments, with Redis's own text for a wrong number of arguments, and with ours for what no shard could
    answer rightly.
    """
    count = len(args) + 1
    if count < -command.arity if command.arity < 0 else count != command.arity:
        raise _wrong_number(command)
    served = _SERVED.get(command.name)
    if served and args[0].upper() not in served:
        raise unsupported(command.name + b" " + args[0].upper()[:32], _SERVER)
    found: list[bytes] = []
    if command.first:
        last = command.last if command.last > 0 else count + command.last
        found = args[command.first - 1 : last : command.step]
        _check(command, args, found)
    if command.shape:
        found = found + _SHAPES[command.shape](command, args)
    if found and max(map(len, found)) > LONGEST_KEY:
        raise WrongArguments(f"ERR {TOO_LONG}")
    return found


def _check(command: Command, args: list[bytes], found: list[bytes]) -> None:
    if len(args) % command.step or (not found and command.kind != "pubsub"):
        raise _wrong_number(command)


def _wrong_number(command: Command) -> WrongArguments:
    return WrongArguments(f"ERR wrong number of arguments for '{command.name.decode().lower()}' command")


def _counted(args: list[bytes], at: int, each: int = 1) -> list[bytes]:
    count = number(args[at])
    if count <= 0:
        raise WrongArguments("ERR numkeys should be greater than 0")
    if at + 1 + count * each > len(args):
        raise WrongArguments("ERR syntax error")
    return args[at + 1 : at + 1 + count * each : each]


def number(word: bytes) -> int:
    """Read a whole number as Redis does; WrongArguments when it is none."""
    digits = word[1:] if word[:1] == b"-" else word
    if not digits.isdigit() or len(digits) > 19:
        raise WrongArguments("ERR value is not an integer or out of range")
    return int(word)


def _script(command: Command, args: list[bytes]) -> list[bytes]:
    count = number(args[1])
    if count < 0:
        raise WrongArguments("ERR Number of keys can't be negative")
    if count > len(args) - 2:
        raise WrongArguments("ERR Number of keys can't be greater than number of args")
    if not count:
        raise WrongArguments(
            f"ERR {command.name.decode()} without keys cannot be sent to a shard through the ambassador; "
            "name a key of the shard that is meant"
        )
    return args[2 : 2 + count]


def _streams(command: Command, args: list[bytes]) -> list[bytes]:
    at = 0
    while at < len(args):
        option = args[at].upper()
        if option == b"STREAMS":
            names = args[at + 1 :]
            if not names or len(names) % 2:
                raise WrongArguments(
                    f"ERR Unbalanced '{command.name.decode().lower()}' list of streams: "
                    "for each stream key an ID or '$' must be specified."
                )
            return names[: len(names) // 2]
        at += {b"GROUP": 3, b"NOACK": 1}.get(option, 2)
    raise WrongArguments("ERR syntax error")


def _sort(command: Command, args: list[bytes]) -> list[bytes]:
    found: list[bytes] = []
    at = 1
    while at < len(args):
        option, value = args[at].upper(), args[at + 1 : at + 2]
        if option == b"STORE":
            found = value
        if option in (b"BY", b"GET") and b"*" in b"".join(value):
            raise WrongArguments(
                f"ERR {command.name.decode()} with a pattern in BY or GET is not served through the ambassador; "
                "the keys it stands for are on several shards"
            )
        at += {b"STORE": 2, b"BY": 2, b"GET": 2, b"LIMIT": 3}.get(option, 1)
    return found


def _store(command: Command, args: list[bytes]) -> list[bytes]:
    return [args[at + 1] for at in range(4, len(args) - 1) if args[at].upper() in (b"STORE", b"STOREDIST")]


def _copy(command: Command, args: list[bytes]) -> list[bytes]:
    if any(word.upper() == b"DB" for word in args[2:]):
        raise unsupported(b"COPY DB", _DATABASE)
    return []


_SHAPES: dict[str, Callable[[Command, list[bytes]], list[bytes]]] = {
    "count1": lambda command, args: _counted(args, 0),
    "count2": lambda command, args: _counted(args, 1),
    "pairs1": lambda command, args: _counted(args, 0, 2),
    "script": _script,
    "streams": _streams,
    "sort": _sort,
    "store": _store,
    "copy": _copy,
}


def blocks(command: Command, args: list[bytes]) -> bool:
    """Whether a command of the kind `blocking` may wait: XREAD does so only with BLOCK."""
    return command.shape != "streams" or _option(args, b"BLOCK") is not None


def longest(command: Command, args: list[bytes]) -> float:
    """Give the seconds that a blocking command may wait; 0: for ever. What is no number is the shard's to refuse: 0."""
    if command.shape == "streams":
        word, unit = _option(args, b"BLOCK") or b"0", 1e-3
    else:
        word, unit = (args[0] if command.shape == "count2" else args[-1]), 1.0
    try:
        seconds = float(word) * unit
    except ValueError:
        return 0.0
    return seconds if 0 <= seconds < float("inf") else 0.0


def _option(args: Iterable[bytes], name: bytes) -> bytes | None:
    words = iter(args)
    for word in words:
        if word.upper() == b"STREAMS":
            return None
        if word.upper() == b"GROUP":
            next(words, None), next(words, None)
        elif word.upper() == name:
            return next(words, None)
    return None
