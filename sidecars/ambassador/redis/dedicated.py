"""Whom a client is handed to whose commands cannot share a connection with others'."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecars.ambassador.redis.blocking import Blocking
from sidecars.ambassador.redis.commands import CROSSSLOT, Command, WrongArguments, keys
from sidecars.ambassador.redis.subscription import Subscription
from sidecars.ambassador.redis.transaction import Transaction, discarded

if TYPE_CHECKING:
    from sidecars.ambassador.redis.session import Session, Taker


def take(session: Session, command: Command, name: bytes, arguments: list[bytes], frame: bytes) -> Taker | None:
    """Do a command of the kinds `pin`, `blocking` and `pubsub`; None when it is answered, and nothing comes of it.

    WrongArguments, with the error to answer.
    """
    try:
        found = keys(command, arguments)
    except WrongArguments as wrong:
        raise WrongArguments(discarded(wrong)) if name == b"EXEC" else wrong from None
    if command.kind == "blocking":
        return _block(session, command, found, arguments, frame)
    if command.kind == "pubsub":
        subscription = Subscription(session)
        subscription.change(name, arguments)
        return None if subscription.idle else subscription
    return _begin(session, name, found, frame)


def _block(session: Session, command: Command, found: list[bytes], arguments: list[bytes], frame: bytes) -> Blocking:
    shards = {session.shard_of(key) for key in found}
    if len(shards) > 1:
        raise WrongArguments(CROSSSLOT)
    blocking = Blocking(session, found[0])
    blocking.begin(shards.pop(), command, arguments, frame)
    return blocking


def _begin(session: Session, name: bytes, found: list[bytes], frame: bytes) -> Transaction | None:
    if name in (b"EXEC", b"DISCARD"):
        raise WrongArguments(f"ERR {name.decode()} without MULTI")
    transaction = Transaction(session)
    if name == b"MULTI":
        transaction.multi(frame)
    elif name == b"WATCH":
        transaction.watch(found, frame)
    else:
        session.answer(b"+OK\r\n")
        return None
    return transaction
