"""An output as one URL, whose options are the fields of a Part."""

from __future__ import annotations

from typing import TypeVar

from sidecars.core.declaration import Part, declared
from sidecars.core.values import Place, build, fill

P = TypeVar("P", bound=Part)


class Query(Place, frozen=True):
    """An output's URL, whose keys are its options."""

    def key(self, key: str) -> Place:
        """Go to an option; the address stands in the URL itself."""
        return Place(self.name if key == "address" else f"{self.name}?{key}")


def read_url(kind: type[P], url: str, address: str, query: str, **otherwise: object) -> P:
    """Make the Part of an output's URL from its address and the options after its `?`.

    The options are the fields of the Part, written with `-` or `_`; `otherwise` has the values of those that the rest
    of the URL says, unless an option does. Raises WrongSettings, which quotes `url`, and never an option's text that
    may be a secret.
    """
    from urllib.parse import parse_qsl  # only who gives a URL pays for it

    options = {key.replace("-", "_"): value for key, value in parse_qsl(query, keep_blank_values=True)}
    values: dict[str, object] = {**otherwise, **options}
    values["address"] = address
    place = Query(url)
    made: P = build(kind, fill(declared(kind), values, place), place)
    return made
