"""What clients ask of a server as such: what it is, how it is set, which commands it has."""

from __future__ import annotations

import fnmatch
import os
import time
from collections.abc import Iterable

from sidecars.ambassador.redis.client import Answer, State, subcommand
from sidecars.ambassador.redis.commands import COMMANDS, Command, keys
from sidecars.ambassador.redis.writing import array, bulk, error, integer, mapping, text

VERSION = "7.0.15"  # of Redis, for clients that go by it: that of the table of commands
_STARTED = time.monotonic()


def info(state: State, args: list[bytes]) -> bytes:
    """Answer INFO: what the ambassador is itself, and how many shards there are."""
    wanted = {word.lower() for word in args} - {b"default", b"all", b"everything"}
    whole = not args or len(wanted) < len({word.lower() for word in args})
    sections = [text for name, text in _sections(state) if whole or name.lower().encode() in wanted]
    return text(state.protocol, "\r\n".join(sections).encode())


def _sections(state: State) -> Iterable[tuple[str, str]]:
    pool = state.pool
    uptime = int(time.monotonic() - _STARTED)
    # Clients wait for `loading:0`, and look for a master.
    facts: dict[str, dict[str, object]] = {
        "Server": {"redis_version": VERSION, "redis_mode": "standalone", "process_id": os.getpid(),
                   "uptime_in_seconds": uptime, "uptime_in_days": uptime // 86400},
        "Clients": {"connected_clients": len(pool.sessions)},
        "Persistence": {"loading": 0},
        "Replication": {"role": "master", "connected_slaves": 0},
        "Cluster": {"cluster_enabled": 0},
        "Ambassador": {"shards": len(pool.shards), "hash": pool.settings.hash,
                       "distribution": pool.settings.distribution},
    }  # fmt: skip
    for name, rows in facts.items():
        yield name, f"# {name}\r\n" + "".join(f"{key}:{value}\r\n" for key, value in rows.items())


def config(state: State, args: list[bytes]) -> bytes:
    """Answer CONFIG."""
    return subcommand({b"GET": (-2, _config_get)}, b"CONFIG", state, args)


def _config_get(state: State, args: list[bytes]) -> bytes:
    """Say the little that is so here; what is not known is not there, as with Redis."""
    known = {"databases": b"1", "proto-max-bulk-len": b"%d" % int(state.pool.settings.max_request)}
    asked = [word.decode(errors="replace").lower() for word in args]
    found = [name for name in known if any(fnmatch.fnmatchcase(name, word[:256]) for word in asked)]
    return mapping(state.protocol, {name.encode(): bulk(known[name]) for name in found})


def command(state: State, args: list[bytes]) -> bytes:
    """Answer COMMAND: what is served, and where its keys are."""
    return subcommand(_COMMAND, b"COMMAND", state, args) if args else _rows(state, _served())


def _served() -> list[Command]:
    return [command for command in COMMANDS.values() if command.kind != "refused"]


def _rows(state: State, commands: Iterable[Command | None]) -> bytes:
    return array([_row(state, command) for command in commands])


def _row(state: State, command: Command | None) -> bytes:
    if command is None:
        return b"_\r\n" if state.protocol == 3 else b"*-1\r\n"
    words = (command.flags, "movablekeys" if command.shape else "", "blocking" if command.kind == "blocking" else "")
    flags = array([b"+%b\r\n" % word.encode() for word in words if word])
    positions = [integer(value) for value in (command.first, command.last, command.step)]
    if state.protocol == 3:
        flags = b"~" + flags[1:]
    return array([bulk(command.name.lower()), integer(command.arity), flags, *positions, *[array([])] * 4])


def _command_info(state: State, args: list[bytes]) -> bytes:
    return _rows(state, [_find(word) for word in args] if args else _served())


def _find(word: bytes) -> Command | None:
    command = COMMANDS.get(word.upper())
    return command if command is not None and command.kind != "refused" else None


def _command_docs(state: State, args: list[bytes]) -> bytes:
    """Give no words on any command: there is documentation of Redis for that."""
    found = [command for command in map(_find, args) if command] if args else []
    return mapping(state.protocol, {command.name.lower(): mapping(state.protocol, {}) for command in found})


def _command_list(state: State, args: list[bytes]) -> bytes:
    if args:
        return error("ERR syntax error")
    return array([bulk(command.name.lower()) for command in _served()])


def _command_getkeys(state: State, args: list[bytes]) -> bytes:
    command = _find(args[0])
    if command is None:
        return error("ERR Invalid command specified")
    found = keys(command, args[1:])
    return array([bulk(key) for key in found]) if found else error("ERR The command has no key arguments")


_COMMAND: dict[bytes, tuple[int, Answer]] = {
    b"COUNT": (0, lambda state, args: integer(len(_served()))),
    b"INFO": (-1, _command_info),
    b"DOCS": (-1, _command_docs),
    b"LIST": (-1, _command_list),
    b"GETKEYS": (-2, _command_getkeys),
}
