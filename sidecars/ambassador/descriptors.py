"""How many of this process's descriptors connections may have: the rest is for whoever asks whether it lives."""

from __future__ import annotations

import os
import resource

_RESERVE, _LEAST_SHARE = 32, 8  # descriptors that are not for connections; of few, an eighth


def most() -> int:
    """Give the number that no connection's descriptor may reach.

    Without any left, the admin door could not be asked for /livez, and Kubernetes would end what only is busy.
    """
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return limit - min(_RESERVE, limit // _LEAST_SHARE)


def next_free() -> int:
    """Give the number that the next descriptor will have: the kernel gives the lowest that is free. OSError if none."""
    probe = os.eventfd(0)
    os.close(probe)
    return probe
