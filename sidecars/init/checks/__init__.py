"""What can be looked at: which module knows a scheme, and what an attempt says."""

from __future__ import annotations

import asyncio
import errno
import importlib
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from sidecars.core.errors import WrongSettings

if TYPE_CHECKING:
    from sidecars.init.target import Target

State = Literal[
    "ok", "no-name", "no-endpoints", "refused", "filtered", "reset", "tls", "auth", "not-ready", "impossible", "error"
]


class Result(msgspec.Struct, frozen=True):
    """What one attempt has found.

    state  ok; or why not:
           no-name       the DNS has no such name           no-endpoints  it exists and has no address
           refused       nothing listens there              filtered      no answer to the request to connect
           reset         the connection was broken off      tls           TLS, or the certificate, is not as wanted
           auth          the credentials are not accepted   not-ready     it answers, but not what is wanted
           impossible    it can never be as wanted          error         the look itself failed
    text   for people, one line without secrets: what has happened; what may be the reason, or what to do
    again  seconds after which another look is worth it, where the check knows better than the backoff
    """

    state: State
    text: str
    again: float | None = None


class Unmet(Exception):  # noqa: N818
    """The way a check says from deep inside that its target is not as wanted."""

    def __init__(self, state: State, text: str, again: float | None = None) -> None:
        super().__init__(text)
        self.result = Result(state, text, again)


class Scheme(NamedTuple):
    """How the targets of one scheme are read, and who checks them.

    function  async (target, patience) -> Result: one attempt, which may raise Unmet and OSError, see attempt(). Its
              module may have validate(target), which raises WrongSettings for options that cannot be read
    port      where the target names none; 0: it must name one; None: there are no ports
    options   the names of the options, besides COMMON
    form      authority: //user:password@host:port/path, path: a file's, opaque: up to the ?, words: all of the rest
    sends     parameters that are no options are a part of the path
    """

    module: str
    function: str = "check"
    port: int | None = 0
    options: str = ""
    form: Literal["authority", "path", "opaque", "words"] = "authority"
    sends: bool = False


COMMON = ("patience",)
TLS = "ca cert cert_key server_name insecure"
LOGIN = "user password_file"
_HTTP = f"status body json method header_file follow min_days {TLS} {LOGIN}"

CHECKS: dict[str, Scheme] = {
    "dns": Scheme("dns", port=None, options="answers type"),
    "tcp": Scheme("tcp", options="banner"),
    "unix": Scheme("tcp", "check_unix", form="path", options="banner"),
    "tls": Scheme("tls", options=f"min_days names {TLS}"),
    "http": Scheme("http", port=80, options=_HTTP, sends=True),
    "https": Scheme("http", port=443, options=_HTTP, sends=True),
    "grpc": Scheme("grpc", port=0, options=TLS),
    "grpcs": Scheme("grpc", port=443, options=TLS),
    "file": Scheme("file", form="path", options="nonempty contains newer stable"),
    "cmd": Scheme("program", form="words", options="exit output"),
    "redis": Scheme("redis", port=6379, options=f"role db {LOGIN} {TLS}"),
    "rediss": Scheme("redis", port=6379, options=f"role db {LOGIN} {TLS}"),
    "postgres": Scheme("postgres", port=5432, options=f"tls {LOGIN} {TLS}"),
    "postgresql": Scheme("postgres", port=5432, options=f"tls {LOGIN} {TLS}"),
    "mysql": Scheme("mysql", port=3306, options=f"tls {LOGIN} {TLS}"),
    "mariadb": Scheme("mysql", port=3306, options=f"tls {LOGIN} {TLS}"),
    "amqp": Scheme("amqp", port=5672, options=f"{LOGIN} {TLS}"),
    "amqps": Scheme("amqp", port=5671, options=f"{LOGIN} {TLS}"),
    "memcached": Scheme("memcached", port=11211, options=LOGIN),
    "nats": Scheme("nats", port=4222, options=f"tls {LOGIN} {TLS}"),
    "k8s": Scheme(
        "kubernetes", form="opaque", options="namespace condition jsonpath value selector count grace account"
    ),
}

# What it means when time runs out at this point of an attempt; a check sets it as it goes on. A deadline of its own
# could not say it for sure: of two that have passed on a busy machine, asyncio tells of the outer one only.
late: ContextVar[Callable[[], Result] | None] = ContextVar("late", default=None)

Check = Callable[["Target", float], Awaitable[Result]]


def prepared(target: Target) -> Check:
    """Import what checks the target, and let it look at the options. Raises WrongSettings."""
    scheme = CHECKS[target.scheme]
    path = f"{__name__}.{scheme.module}"
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        missing = "this check" if error.name == path else error.name
        raise WrongSettings(f"{target.text} needs {missing}, which this image lacks; take pod-init-full") from error
    if hasattr(module, "validate"):
        module.validate(target)
    check: Check = getattr(module, scheme.function)
    return check


async def attempt(check: Check, target: Target, patience: float) -> Result:
    """Make one attempt within so many seconds. What the world does wrong is a result; what is wrong here is raised."""
    late.set(None)
    try:
        async with asyncio.timeout(patience):
            return await check(target, patience)
    except Unmet as unmet:
        return unmet.result
    except TimeoutError:
        meaning = late.get()
        return meaning() if meaning else Result("not-ready", f"answers, but not within {round(patience, 2):g} s")
    except asyncio.LimitOverrunError:
        return Result("not-ready", "sends more than any answer holds; is it what listens there?")
    except (OSError, EOFError) as error:
        return explained(error)


_UNREACHABLE = (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.EPERM, errno.EACCES)


def explained(error: OSError | EOFError, where: str = "") -> Result:
    """Say why a connection failed; `where` is the other end's address, where it is known: 10.0.0.1:80."""
    import ssl  # asyncio has imported it already

    if isinstance(error, ssl.SSLCertVerificationError):
        return distrusted(error)
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
        return Result("tls", f"TLS fails: {reason(error)}; does it speak TLS there, and take our certificate?")
    code, words = getattr(error, "errno", None), getattr(error, "strerror", None)
    if code == errno.ECONNREFUSED:
        by = f" by {where}" if where else ""
        return Result("refused", f"refused{by}; nothing listens there, or the Service has no ready pod")
    if code in _UNREACHABLE:
        why = f"{where or 'it'} cannot be reached ({words or 'no answer'})"
        return Result("filtered", f"{why}; a firewall or NetworkPolicy is in the way, or there is no such host")
    if isinstance(error, (ConnectionError, EOFError, ssl.SSLEOFError)):
        return Result("reset", "accepted, then broken off; does it listen already, and speak this protocol?")
    return Result("error", f"cannot reach {where or 'it'}: {words or error}")


def reason(error: Exception) -> str:
    """Say what OpenSSL has found, as "wrong version number", without the place in its source."""
    return str(getattr(error, "reason", None) or error).replace("_", " ").lower()


def distrusted(error: Exception) -> Result:
    """Say why a certificate is not trusted. One that has expired comes right by no waiting."""
    code, words = getattr(error, "verify_code", 0), getattr(error, "verify_message", str(error))
    if code == 10:  # X509_V_ERR_CERT_HAS_EXPIRED
        return Result("impossible", "the certificate has expired; renew it")
    hint = "; name its CA by ca=FILE" if code in (18, 19, 20, 21) else ""
    return Result("tls", f"the certificate is not trusted: {words}{hint}")


def shown(data: bytes | str, longest: int = 80) -> str:
    """Quote what the other end has sent, which may be anything."""
    text = data[: longest * 4].decode(errors="backslashreplace") if isinstance(data, bytes) else data
    text = text.strip()
    return repr(text[:longest] + ("..." if len(text) > longest else ""))
