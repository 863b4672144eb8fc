"""The time zone that `timezone`, `utc` and `localtime` of a section say."""

from __future__ import annotations

from datetime import UTC, datetime

from sidecars.core.errors import WrongSettings
from sidecars.shipper.fluentd.sections import Section
from sidecars.shipper.slices import zone


def of(section: Section) -> str | None:
    """Give the zone as the plan has it: UTC, local, Europe/Berlin, +09:00; None when the section says nothing.

    Raises WrongSettings for a zone that is not known, and for two that are said at once.
    """
    utc, localtime = section.get("utc"), section.get("localtime")
    if utc and localtime:
        raise section.wrong("localtime", "is said beside utc; leave one of them out")
    if section.get("timezone"):
        return named(section, "timezone")
    if utc is None and localtime is None:
        return None
    return "UTC" if utc or localtime is False else "local"


def named(section: Section, name: str) -> str:
    """Give the zone that a parameter names. Raises WrongSettings when it is not known."""
    text: str = section.get(name)
    try:
        zone(text)
    except WrongSettings as error:
        raise section.wrong(name, f"is {text!r}: {error}") from error
    return text


def alike(one: str, other: str) -> bool:
    """Tell whether two zones, as the plan has them, have the same time now."""
    now = datetime.now(UTC)
    return now.astimezone(zone(one)).utcoffset() == now.astimezone(zone(other)).utcoffset()
