"""What is answered here, without a shard: the handshakes of clients, and what they ask of a server as such."""

from __future__ import annotations

import hmac
import time

from sidecars.ambassador.redis.client import Answer, State, subcommand
from sidecars.ambassador.redis.commands import COMMANDS, WrongArguments, keys, shown, unsupported
from sidecars.ambassador.redis.describing import VERSION, command, config, info
from sidecars.ambassador.redis.writing import OK, array, bulk, error, integer, mapping, null, text
from sidecars.core.errors import WrongSettings

__all__ = ["State", "answer"]


def answer(state: State, name: bytes, args: list[bytes]) -> bytes:
    """Answer a command of the kind `local`, given its name in capitals, in the client's version of RESP.

    It may change the state. Closing the connection after the answer to QUIT is for whoever calls.
    """
    try:
        keys(COMMANDS[name], args)  # it has none, but so many arguments as it must
        return _ANSWERS[name](state, args)
    except WrongArguments as wrong:
        return error(str(wrong))


# Logging in.


def _auth(state: State, args: list[bytes]) -> bytes:
    if len(args) > 2:
        return error("ERR syntax error")
    settings = state.pool.settings
    if settings.client_password is None and len(args) == 1:
        return error("ERR Client sent AUTH, but no password is set")
    user, password = args if len(args) == 2 else (b"default", args[0])
    if _log_in(state, user, password):
        return OK
    if len(args) == 1 and settings.client_user is None:
        # As after twemproxy's, the client is nobody now.
        state.authenticated = False
        return error("ERR invalid password")
    return error("WRONGPASS invalid username-password pair or user is disabled.")


def _log_in(state: State, user: bytes, password: bytes) -> bool:
    settings = state.pool.settings
    known = (settings.client_user or "default").encode()
    if settings.client_password is None:
        return user == known
    try:
        expected = settings.client_password.reveal().encode()
    except WrongSettings:
        return False
    # Both are compared whatever the first has shown: how long it takes tells nothing.
    right = hmac.compare_digest(user, known) & hmac.compare_digest(password, expected)
    if right:
        state.user, state.authenticated = user, True
    return right


def _hello(state: State, args: list[bytes]) -> bytes:
    protocol = state.protocol
    if args:
        if not args[0].isdigit():
            return error("ERR Protocol version is not an integer or out of range")
        if args[0] not in (b"2", b"3"):
            return error("NOPROTO unsupported protocol version")
        protocol = int(args[0])
    refusal = _hello_options(state, args[1:])
    if refusal:
        return refusal
    state.protocol = protocol
    return mapping(protocol, {
        b"server": bulk(b"redis"), b"version": bulk(VERSION.encode()), b"proto": integer(protocol),
        b"id": integer(state.id), b"mode": bulk(b"standalone"), b"role": bulk(b"master"), b"modules": array([]),
    })  # fmt: skip


def _hello_options(state: State, options: list[bytes]) -> bytes | None:
    """Do as HELLO's options say; the error, if one is wrong: then nothing but a login has been done."""
    named: bytes | None = None
    while options:
        word = options[0].upper()
        if word == b"AUTH" and len(options) > 2:
            if not _log_in(state, options[1], options[2]):
                return error("WRONGPASS invalid username-password pair or user is disabled.")
            options = options[3:]
        elif word == b"SETNAME" and len(options) > 1:
            named, options = options[1], options[2:]
        else:
            return error(f"ERR Syntax error in HELLO option {shown(options[0])}")
    if not state.authenticated:
        return error(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH "
            "<user> <pass> option can be used to authenticate the client and select the RESP protocol version at the "
            "same time"
        )
    return None if named is None else _name(state, named)


def _name(state: State, name: bytes) -> bytes | None:
    if not _printable(name):
        return error("ERR Client names cannot contain spaces, newlines or special characters.")
    state.name = name
    return None


def _printable(text: bytes) -> bool:
    return all(33 <= byte <= 126 for byte in text)


def _select(state: State, args: list[bytes]) -> bytes:
    if args[0] == b"0":
        return OK
    if not args[0].isdigit():
        return error("ERR value is not an integer or out of range")
    return error("ERR DB index is out of range; only database 0 is served through the ambassador")


def _reset(state: State, args: list[bytes]) -> bytes:
    state.reset()
    return b"+RESET\r\n"


# CLIENT.


def _client(state: State, args: list[bytes]) -> bytes:
    return subcommand(_CLIENT, b"CLIENT", state, args)


def _client_setname(state: State, args: list[bytes]) -> bytes:
    return _name(state, args[0]) or OK


def _client_getname(state: State, args: list[bytes]) -> bytes:
    return bulk(state.name) if state.name else null(state.protocol)


def _client_setinfo(state: State, args: list[bytes]) -> bytes:
    option, value = args[0].upper(), args[1]
    if option not in (b"LIB-NAME", b"LIB-VER"):
        return error(f"ERR Unrecognized option {shown(args[0])}")
    if not _printable(value):
        return error(f"ERR {option.decode().lower()} cannot contain spaces, newlines or special characters.")
    if option == b"LIB-NAME":
        state.library = value
    else:
        state.version = value
    return OK


def _client_info(state: State, args: list[bytes]) -> bytes:
    """Tell of this client. LIST tells no more: the others may be in other processes."""
    fields = {
        "id": state.id, "addr": state.address, "name": state.name.decode(), "age": int(time.monotonic() - state.since),
        "db": 0, "user": state.user.decode(errors="replace"), "resp": state.protocol,
        "lib-name": state.library.decode(), "lib-ver": state.version.decode(),
    }  # fmt: skip
    line = " ".join(f"{key}={value}" for key, value in fields.items())
    return text(state.protocol, f"{line}\n".encode())


def _client_tracking(state: State, args: list[bytes]) -> bytes:
    if args[0].upper() == b"OFF":
        return OK
    raise unsupported(b"CLIENT TRACKING", "what a shared connection has read cannot be told to one client")


def _client_reply(state: State, args: list[bytes]) -> bytes:
    if args[0].upper() == b"ON":
        return OK
    raise unsupported(b"CLIENT REPLY", "every command is answered")


def _client_switch(state: State, args: list[bytes]) -> bytes:
    return OK if args[0].upper() in (b"ON", b"OFF") else error("ERR syntax error")


def _client_trackinginfo(state: State, args: list[bytes]) -> bytes:
    return mapping(state.protocol, {
        b"flags": array([bulk(b"off")]), b"redirect": integer(-1), b"prefixes": array([]),
    })  # fmt: skip


_CLIENT: dict[bytes, tuple[int, Answer]] = {
    b"ID": (0, lambda state, args: integer(state.id)),
    b"GETNAME": (0, _client_getname),
    b"SETNAME": (1, _client_setname),
    b"SETINFO": (2, _client_setinfo),
    b"INFO": (0, _client_info),
    b"LIST": (-1, _client_info),
    b"NO-EVICT": (1, _client_switch),
    b"NO-TOUCH": (1, _client_switch),
    b"REPLY": (1, _client_reply),
    b"TRACKING": (-2, _client_tracking),
    b"TRACKINGINFO": (0, _client_trackinginfo),
    b"GETREDIR": (0, lambda state, args: integer(-1)),
}


def _ping(state: State, args: list[bytes]) -> bytes:
    if len(args) > 1:
        return error("ERR wrong number of arguments for 'ping' command")
    return bulk(args[0]) if args else b"+PONG\r\n"


def _time(state: State, args: list[bytes]) -> bytes:
    seconds, rest = divmod(time.time_ns(), 1_000_000_000)
    return array([bulk(b"%d" % seconds), bulk(b"%d" % (rest // 1000))])


_ANSWERS: dict[bytes, Answer] = {
    b"AUTH": _auth,
    b"CLIENT": _client,
    b"COMMAND": command,
    b"CONFIG": config,
    b"ECHO": lambda state, args: bulk(args[0]),
    b"HELLO": _hello,
    b"INFO": info,
    b"PING": _ping,
    b"QUIT": lambda state, args: OK,
    b"RESET": _reset,
    b"SELECT": _select,
    b"TIME": _time,
}
