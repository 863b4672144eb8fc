"""git-syncer's config file: what git-sync's flags say, and the list `repositories` of what differs in each."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from msgspec.structs import replace

from sidecars.core.configfile import ConfigFile
from sidecars.core.declaration import declared
from sidecars.core.errors import WrongSettings
from sidecars.core.values import Place, fill
from sidecars.syncer.settings import OF_PROCESS, PREFIX, Credential, Settings


def from_file(config: ConfigFile, mapping: dict[str, object], place: str) -> dict[str, Any]:
    """Read the values of a mapping of the file, by field. Raises WrongSettings."""
    known = {key.replace("-", "_"): each for key, each in mapping.items()}
    here = Place(place, config.path, config.written)
    logins = known.pop("credential", None)
    values = fill(declared(Settings, PREFIX), known, here)
    if logins is not None:
        values["credential"] = _credentials_of_file(logins, here.key("credential"))
    return values


def _credentials_of_file(logins: object, place: Place) -> tuple[str, ...]:
    """Read `credential`: mappings, or texts of JSON. A password in plain text is refused. Raises WrongSettings."""
    found: list[str] = []
    for index, login in enumerate(logins if isinstance(logins, list) else [logins]):
        here = place.item(index)
        try:
            entry = credentials(login if isinstance(login, str) else json.dumps(login))
        except ValueError as error:
            raise WrongSettings(f"{here} is no credential: {error}; write url, username and password-file") from None
        if isinstance(login, dict) and login.get("password") and f"{here.name}.password" not in place.written:
            raise WrongSettings(f"{here} holds a secret in plain text; give password-file, or a variable as ${{VAR}}")
        found += entry
    return tuple(found)


def overlaid(base: Settings, config: ConfigFile, entries: object) -> list[Settings]:
    """Give each entry of `repositories` as settings of its own, over those of all."""
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise WrongSettings(f"repositories in {config.path} is no list of mappings; write - repo: URL for each")
    found = []
    for index, entry in enumerate(entries):
        values = from_file(config, entry, f"repositories[{index}]")
        for name in sorted(OF_PROCESS & values.keys()):
            raise WrongSettings(
                f"repositories[{index}].{name} in {config.path} is one for all; set it beside repositories"
            )
        found.append(replace(base, **values))
    return found


def credentials(text: str, *, quiet: bool = False) -> tuple[str, ...]:
    """Read one --credential: an object or a list of them. ValueError, or nothing, when the text is none."""
    try:
        found = json.loads(text)
        items = [json.dumps(item) for item in (found if isinstance(found, list) else [found])]
        for item in items:
            msgspec.json.decode(item, type=Credential)
        return tuple(items)
    except ValueError:
        if quiet:
            return ()
        raise
