"""Each rule finds what it says, where that stands, and nothing that only looks like it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecars.pods.lint.linting import Finding, findings
from sidecars.pods.lint.page import renewed
from sidecars.pods.lint.rules import RULES
from sidecars.pods.manifests import read
from tests.unit.pods.lint.cases import CASES, SERVICE, Case, waiting

ROOT = Path(__file__).parents[4]


def found(text: str, *rules: str, target: tuple[int, int] = (1, 37)) -> list[Finding]:
    chosen = [RULES[rule] for rule in rules or RULES]
    return findings([read(text, "web.yaml", target)], chosen, target)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_rule_finds_it_and_nothing_else(case: Case) -> None:
    said = [(each.line, each.message) for each in found(case.text, case.rule, target=case.target)]
    if not case.line:
        assert said == []
        return
    [(line, message)] = said
    assert line == case.line
    assert case.says in message


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_is_tried_on_pods_that_have_it_and_pods_that_have_not(rule: str) -> None:
    assert {bool(case.line) for case in CASES if case.rule == rule} == {True, False}


@pytest.mark.parametrize("case", [case for case in CASES if case.line], ids=str)
def test_a_message_is_one_line_that_ends_with_what_to_do(case: Case) -> None:
    for each in found(case.text, target=case.target):
        assert re.fullmatch(r"[^\n]{20,260}[^\n.]", each.message)
        assert re.search(r"[;,:] ", each.message)
        assert "hunter2" not in each.message


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: str(rule.id))
def test_a_rule_is_explained(rule: Any) -> None:
    assert re.fullmatch(r"[a-z0-9.-]+", rule.id)
    assert len(rule.title) < 110
    assert not rule.title.endswith(".")
    assert len(rule.why.split()) > 25


def test_a_service_in_another_file_is_known() -> None:
    text = waiting("tcp://web:80", "")
    alone = findings([read(text, "a.yaml")], RULES.values(), (1, 37))
    both = findings([read(text, "a.yaml"), read(SERVICE, "b.yaml")], RULES.values(), (1, 37))
    assert [each.rule for each in both if each not in alone] == ["waits-for-itself"]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "manifests").rglob("*.yaml")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_our_own_manifests_have_nothing_of_it(path: Path) -> None:
    assert found(path.read_text()) == []


def test_the_page_says_what_the_rules_say() -> None:
    page = (ROOT / "docs" / "lint.md").read_text()
    assert renewed(page) == page


# One word a line would be a page.
KEYS = st.sampled_from(
    """
    name image command args env value ports containerPort volumeMounts mountPath subPath readOnly volumes emptyDir
    gitRepo configMap lifecycle preStop exec sleep seconds readinessProbe startupProbe httpGet host securityContext
    runAsNonRoot restartPolicy initContainers containers terminationGracePeriodSeconds dnsPolicy hostNetwork
    """.split()  # noqa: SIM905
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(["", "web", "busybox", "sh", "-c", "tail -f /l", "Always", "/"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60)
@given(st.dictionaries(KEYS, VALUES, max_size=6), st.lists(st.dictionaries(KEYS, VALUES, max_size=5), max_size=3))
def test_whatever_a_pod_holds_it_is_linted(spec: dict[str, Any], containers: list[dict[str, Any]]) -> None:
    pod = {"kind": "Pod", "metadata": {"name": "web"}, "spec": {**spec, "containers": containers}}
    service = {"kind": "Service", "metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}}}
    for each in found(yaml.safe_dump_all([pod, service])):
        assert each.message
