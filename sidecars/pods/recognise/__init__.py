"""What the shell in a container's command does, and which of our images does it better.

    steps.py      takes a script apart, statement by statement, and asks the recognisers
    joining.py    puts steps together that belong together
    deciding.py   makes them one verdict

There is a module for each family of the catalogue's rows: waiting (with probes/) and waiters, logs, copying, fetching,
syncing, files, writing, forwarding, keeping, refused.
"""

from __future__ import annotations

from sidecars.pods.recognise.calling import call
from sidecars.pods.recognise.deciding import decide
from sidecars.pods.recognise.joining import joined
from sidecars.pods.recognise.scope import Scope, repository
from sidecars.pods.recognise.steps import limited, steps
from sidecars.pods.verdict import Container, Verdict

__all__ = ["recognise"]

_OURS = frozenset(("log-tailer", "log-adapter", "s3-shipper", "git-syncer", "ambassador", "pod-init"))


def recognise(container: Container) -> Verdict | None:
    """Say what a container's command does, as far as that is known; None: nothing that we know. Never raises.

    Our own images are never recognised: what was converted stays as it is.
    """
    if repository(container.image).removesuffix("-full").removesuffix("-debug") in _OURS:
        return None
    called = call(container)
    if called is None:
        return None
    scope = Scope(container)
    scope.strict = called.strict
    scope.values.update((str(place), text) for place, text in enumerate(called.positional))
    found = limited(steps(called.script.statements, scope), called.limit)
    return decide(joined(list(found), scope), called, scope)
