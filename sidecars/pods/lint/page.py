"""The part of docs/lint.md that is made from the rules: `python -m sidecars.pods.lint.page docs/lint.md`."""

from __future__ import annotations

import sys

from sidecars.pods.lint.rules import RULES

BEGIN, END = "<!-- made from the rules: begin -->\n", "<!-- made from the rules: end -->\n"


def made() -> str:
    """Write the table of all rules, and a section for each."""
    rows = [f"| [`{rule.id}`](#{rule.id}) | {rule.level} | {rule.title} |\n" for rule in RULES.values()]
    table = "| rule | level | what it finds |\n| --- | --- | --- |\n" + "".join(rows)
    sections = "".join(
        f"\n### {rule.id}\n\n{rule.title[0].upper()}{rule.title[1:]}.\n\n{rule.why}\n" for rule in RULES.values()
    )
    return f"{BEGIN}\n{table}{sections}\n{END}"


def renewed(page: str) -> str:
    """Put what the rules say now into a page. Raises ValueError when it has no place for that."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no lines {BEGIN.strip()} and {END.strip()}: add them")
    return before + made() + after


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        text = renewed(file.read())
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        file.write(text)
