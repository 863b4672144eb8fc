"""Where the listeners come from: LISTEN=UPSTREAMS, --config, twemproxy's own file, or the variables of its image."""

from __future__ import annotations

import os

from sidecars.ambassador import checking
from sidecars.ambassador.settings import Found, Settings
from sidecars.core.errors import WrongSettings

# The image malexer/twemproxy takes a file that is mounted there instead of its variables.
MOUNTED = "/etc/nutcracker.conf"


def find(settings: Settings, mounted: str = MOUNTED) -> Found:
    """Give the listeners that the settings come to. Raises WrongSettings, also when two sources speak, or none does."""
    given = {
        "LISTEN=UPSTREAMS": bool(settings.routes),
        "listeners in --config": bool(settings.listeners),
        "--nutcracker-config": settings.nutcracker_config is not None,
    }
    named = [name for name, is_given in given.items() if is_given]
    if len(named) > 1:
        raise WrongSettings(f"{' and '.join(named)} are both given; keep one of them")
    if named and settings.redis_servers:
        found = _named(settings)
        notice = f"REDIS_SERVERS counts for nothing beside {named[0]}; leave it out"
        return found._replace(notices=(*found.notices, notice))
    return _named(settings) if named else _variables(settings, mounted)


def _named(settings: Settings) -> Found:
    if settings.routes:
        from sidecars.ambassador.words import read_route

        return Found(tuple(map(read_route, settings.routes)))
    if settings.nutcracker_config is not None:
        return _nutcracker(settings.nutcracker_config)
    return Found(settings.listeners)


def _variables(settings: Settings, mounted: str) -> Found:
    """Do as the image malexer/twemproxy does."""
    if os.path.isfile(mounted):
        found = _nutcracker(mounted)
        what = "; REDIS_SERVERS and the variables beside it count for nothing" if settings.redis_servers else ""
        return found._replace(notices=(f"{mounted} is mounted and says the listeners{what}", *found.notices))
    if not settings.redis_servers:
        raise WrongSettings(f"there is nothing to carry: say where to listen and where to go, as {checking.EXAMPLE}")
    from sidecars.ambassador.twemproxy import read_variables

    return read_variables(settings)


def _nutcracker(path: str) -> Found:
    from sidecars.ambassador.nutcracker.pools import read_pools  # only who has such a file pays for YAML

    return read_pools(path)
