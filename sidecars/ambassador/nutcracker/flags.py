"""twemproxy's command line, read as getopt_long reads it, and its texts."""

from __future__ import annotations

import getopt
from collections.abc import Sequence

import msgspec

from sidecars import __version__
from sidecars.ambassador.nutcracker.stats import VERSION
from sidecars.core.errors import SidecarError

VERSION_TEXT = f"This is nutcracker-{VERSION}\nas sidecars' ambassador {__version__} has it\n"
USAGE = """\
Usage: nutcracker [-?hVdDt] [-v verbosity level] [-o output file]
                  [-c conf file] [-s stats port] [-a stats addr]
                  [-i stats interval] [-p pid file] [-m mbuf size]

Options:
  -h, --help             : this help
  -V, --version          : show version and exit
  -t, --test-conf        : test configuration for syntax errors and exit
  -d, --daemonize        : run as a daemon
  -D, --describe-stats   : print stats description and exit
  -v, --verbose=N        : set logging level (default: 5, min: 0, max: 11)
  -o, --output=S         : set logging file (default: stderr)
  -c, --conf-file=S      : set configuration file (default: /etc/nutcracker/nutcracker.yml)
  -s, --stats-port=N     : set stats monitoring port (default: 22222)
  -a, --stats-addr=S     : set stats monitoring ip (default: 0.0.0.0)
  -i, --stats-interval=N : accepted; stats are always fresh
  -p, --pid-file=S       : set pid file (default: off)
  -m, --mbuf-size=N      : accepted; memory is bounded otherwise
"""
STATS_TEXT = """\
pool stats:
  client_eof          "# eof on client connections"
  client_err          "# errors on client connections"
  client_connections  "# active client connections"
  server_ejects       "# times backend server was ejected"
  forward_error       "# times we encountered a forwarding error"
  fragments           "# fragments created from a multi-vector request"

server stats:
  server_eof          "# eof on server connections"
  server_err          "# errors on server connections"
  server_timedout     "# timeouts on server connections"
  server_connections  "# active server connections"
  server_ejected_at   "timestamp when server was ejected in usec since epoch"
  requests            "# requests"
  request_bytes       "total request bytes"
  responses           "# responses"
  response_bytes      "total response bytes"
  in_queue            "# requests in incoming queue"
  in_queue_bytes      "current request bytes in incoming queue"
  out_queue           "# requests in outgoing queue"
  out_queue_bytes     "current request bytes in outgoing queue"
"""
LEAST_VERBOSE, MOST_VERBOSE = 0, 11
_MBUF = (512, 16 << 20)

_LONG = {
    "help": "h",
    "version": "V",
    "test-conf": "t",
    "daemonize": "d",
    "describe-stats": "D",
    "verbose=": "v",
    "output=": "o",
    "conf-file=": "c",
    "stats-port=": "s",
    "stats-addr=": "a",
    "stats-interval=": "i",
    "pid-file=": "p",
    "mbuf-size=": "m",
}
_SHORT_OF = {f"--{name.rstrip('=')}": f"-{letter}" for name, letter in _LONG.items()}
_TEXTS = {"o": "output", "c": "conf_file", "a": "stats_addr", "p": "pid_file"}
# What a flag needs, where it has nothing behind it.
_NEEDS = {"c": "a file name", "o": "a file name", "p": "a file name", "a": "a string"}


class WrongFlags(SidecarError):  # noqa: N818
    """The command line cannot be read."""


class Flags(msgspec.Struct):
    """What the command line says."""

    asks: str = ""  # the letters of -h, -V, -D and -t, as far as they were given
    daemonize: bool = False
    verbose: int = 5
    output: str = ""
    conf_file: str = "/etc/nutcracker/nutcracker.yml"
    stats_port: int = 22222
    stats_addr: str = "0.0.0.0"  # noqa: S104  (twemproxy's default)
    pid_file: str = ""

    @property
    def level(self) -> str:
        """The level of our log."""
        return level(self.verbose)


def level(verbose: int) -> str:
    """Give our level for one of twemproxy's: 0 to 3 are errors, 4 is a warning, 5 a notice, 6 information."""
    if verbose <= 3:
        return "error"
    return "warning" if verbose == 4 else "info" if verbose <= 6 else "debug"


def parse(argv: Sequence[str]) -> Flags:
    """Read a command line. Raises WrongFlags, with twemproxy's words; what is no flag counts for nothing, as there."""
    try:
        found, _ = getopt.gnu_getopt(list(argv), "hVtdDv:o:c:s:i:a:p:m:?", list(_LONG))
    except getopt.GetoptError as error:
        raise WrongFlags(_explained(error)) from None
    flags = Flags()
    for name, text in found:
        letter = _SHORT_OF.get(name, name)[1]
        if letter in "hVDt?":
            flags.asks += letter.replace("?", "h")
        else:
            _take(flags, letter, text)
    return flags


def _explained(error: getopt.GetoptError) -> str:
    letter = _SHORT_OF.get(f"--{error.opt}", error.opt)[-1]
    if "requires argument" in error.msg:
        return f"option -{letter} requires {_NEEDS.get(letter, 'a number')}"
    return f"invalid option -- '{error.opt}'"


def _take(flags: Flags, letter: str, text: str) -> None:
    match letter:
        case "d":
            flags.daemonize = True
        case "v":
            flags.verbose = min(max(_number("v", text), LEAST_VERBOSE), MOST_VERBOSE)
        case "s":
            flags.stats_port = _port(text)
        case "i" | "m":
            _accepted(letter, text)
        case _:
            setattr(flags, _TEXTS[letter], text)


def _number(letter: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise WrongFlags(f"option -{letter} requires a number")
    return int(text)


def _port(text: str) -> int:
    port = _number("s", text)
    if not 0 < port < 65536:
        raise WrongFlags(f"option -s value {port} is not a valid port")
    return port


def _accepted(letter: str, text: str) -> None:
    number = _number(letter, text)
    if letter == "m" and not _MBUF[0] <= number <= _MBUF[1]:
        raise WrongFlags(f"mbuf chunk size must be between {_MBUF[0]} and {_MBUF[1]} bytes")
