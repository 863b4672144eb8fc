"""All rules, by id."""

from __future__ import annotations

from sidecars.pods.lint import images, lifecycle, secrecy, volumes, waiting
from sidecars.pods.lint.rule import Rule

RULES: dict[str, Rule] = {
    rule.id: rule for family in (images, lifecycle, waiting, volumes, secrecy) for rule in family.RULES
}
