"""What was found, for people, for programs, and for code hosts."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from sidecars import __version__
from sidecars.pods.lint.linting import Finding
from sidecars.pods.lint.rule import Rule

_WIDTH = 100


def text(findings: Iterable[Finding], rules: Sequence[Rule]) -> str:
    """Write one line for each, as compilers do and editors read it."""
    return "".join(
        f"{each.file}:{each.line}:{each.column}: {each.level}: {each.object}: {each.message} [{each.rule}]\n"
        for each in findings
    )


def json(findings: Iterable[Finding], rules: Sequence[Rule]) -> str:
    """Write an array with an object for each."""
    return _written(list(findings))


def sarif(findings: Iterable[Finding], rules: Sequence[Rule]) -> str:
    """Write a log of one run, with the rules in it.

    Source: OASIS, Static Analysis Results Interchange Format (SARIF) 2.1.0.
    """
    places = {rule.id: number for number, rule in enumerate(rules)}
    return _written(
        {
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [
                {
                    "tool": {
                        "driver": {
                            "name": "sidecars lint",
                            "version": __version__,
                            "rules": [_described(rule) for rule in rules],
                        }
                    },
                    "columnKind": "unicodeCodePoints",
                    "results": [_result(each, places[each.rule]) for each in findings],
                }
            ],
        }
    )


FORMATS = {"text": text, "json": json, "sarif": sarif}


def explained(rule: Rule) -> str:
    """Write all that is said of a rule, for a terminal."""
    return f"{rule.id} ({rule.level}): {plain(rule.title)}\n\n{textwrap.fill(plain(rule.why), _WIDTH)}\n"


def plain(markdown: str) -> str:
    """Take the marks of code away, and the ends of lines."""
    return " ".join(markdown.replace("`", "").split())


def _described(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "shortDescription": {"text": plain(rule.title)},
        "fullDescription": {"text": plain(rule.why)},
        "help": {"text": plain(rule.why), "markdown": " ".join(rule.why.split())},
        "defaultConfiguration": {"level": rule.level},
    }


def _result(finding: Finding, number: int) -> dict[str, Any]:
    return {
        "ruleId": finding.rule,
        "ruleIndex": number,
        "level": finding.level,
        "message": {"text": f"{finding.object}: {finding.message}"},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": quote(finding.file)},
                    "region": {"startLine": finding.line, "startColumn": finding.column},
                }
            }
        ],
    }


def _written(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n"
