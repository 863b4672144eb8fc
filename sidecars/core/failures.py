"""Why a connection failed: a short word for metrics, and advice."""

from __future__ import annotations

import socket
import ssl
from typing import Literal

Code = Literal["connect", "dns", "tls", "timeout", "closed"]

HINTS: dict[Code, str] = {
    "dns": "is the name right, and the cluster's DNS reachable?",
    "connect": "is the receiver running, and the address right?",
    "tls": "does the receiver speak TLS there, and did `ca` sign its certificate?",
    "closed": "its log says why; does it ask for TLS?",
    "timeout": "is the receiver overloaded, or something else listening there?",
}


def code_of(error: OSError, otherwise: Code) -> Code:
    """Name a failure, which is `otherwise` unless the error says more."""
    match error:
        case socket.gaierror():
            return "dns"
        case TimeoutError():
            return "timeout"
        case ssl.SSLZeroReturnError() | ssl.SSLEOFError():
            return otherwise
        case ssl.SSLError():
            return "tls"
    return otherwise
