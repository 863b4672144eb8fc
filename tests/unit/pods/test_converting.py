"""What `sidecars convert` makes of manifests: the hand-written ones of manifests/, and mixtures of them."""

from __future__ import annotations

import json
import re
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecars.pods import reporting
from sidecars.pods.converting import convert
from sidecars.pods.manifests import PodSpec, read
from sidecars.pods.nodes import WrongManifest
from sidecars.pods.planning import Options
from tests.unit.pods.expected import Case, cases
from tests.unit.pods.layouts import Layout

OPTIONS = Options(target=(1, 37), registry="sidecars", tag="1.2.3")
CASES = list(cases())
DONE = {case.name: convert(case.text, case.name, OPTIONS) for case in CASES}
CONVERTED = [case for case in CASES if DONE[case.name].after != case.text]
# Of what the schemas of Kubernetes know, a document for each form that a change takes.
VALIDATED = ("waiting-1", "waiting-2", "waiting-7", "waiting-9", "logs-0", "logs-1", "logs-3", "logs-6", "files-9",
             "fetching-0", "images-2", "images-5", "shapes-0")  # fmt: skip


def each(chosen: list[Case]) -> Any:
    return pytest.mark.parametrize("case", chosen, ids=[case.name for case in chosen])


def comments(text: str) -> list[str]:
    """The comments, found by another way than ours: what begins with # and is in no scalar."""
    bare = list(text)
    for token in yaml.scan(text, Loader=yaml.CSafeLoader):
        if isinstance(token, yaml.ScalarToken):
            bare[token.start_mark.index : token.end_mark.index] = "x" * (token.end_mark.index - token.start_mark.index)
    return sorted(re.findall(r"(?:^|(?<=[ \n]))#.*", "".join(bare)))


def test_there_are_as_many_as_the_shapes_need() -> None:
    assert len(CASES) >= 60
    rows = {row for case in CASES for _, _, row in case.expected}
    assert len(rows) >= 25


@each(CASES)
def test_what_is_expected_is_found(case: Case) -> None:
    found = DONE[case.name].findings
    assert [(each.container, each.kind, reporting.row(each).lstrip("#")) for each in found] == case.expected


@each(CASES)
def test_only_what_is_exact_changes(case: Case) -> None:
    assert (DONE[case.name].after != case.text) == any(kind == "exact" for _, kind, _ in case.expected)


@each(CONVERTED)
def test_converted_again_it_stays_as_it_is(case: Case) -> None:
    again = convert(DONE[case.name].after, case.name, OPTIONS)
    assert again.after == again.before
    assert not any(finding.kind == "exact" for finding in again.findings)


@each(CONVERTED)
def test_every_comment_stays(case: Case) -> None:
    assert comments(DONE[case.name].after) == comments(case.text)


@each(CONVERTED)
def test_lines_of_other_containers_stay(case: Case) -> None:
    exact = {finding.container for finding in DONE[case.name].findings if finding.kind == "exact"}
    before = read(case.text, case.name)
    for document in before.documents:
        for found in (found for pod in document.pods for found in pod.containers if found.name not in exact):
            start, end = found.position
            assert case.text[start:end] in DONE[case.name].after


def rules(pod: PodSpec) -> list[str]:
    """What the API server refuses beyond the schema, as far as a conversion could break it."""
    broken = []
    names = [found.name for found in pod.containers]
    volumes = [volume["name"] for volume in pod.volumes]
    if len(set(names)) < len(names) or len(set(volumes)) < len(volumes):
        broken.append("a name is given twice")
    for found in pod.containers:
        raw = found.raw
        if found.init and not found.sidecar and {"startupProbe", "livenessProbe", "readinessProbe"} & set(raw):
            broken.append(f"{found.name} ends, and has a probe")
        paths = [mount["mountPath"] for mount in raw.get("volumeMounts", [])]
        if len(set(paths)) < len(paths):
            broken.append(f"{found.name} mounts twice at one path")
        context = {**pod.spec.get("securityContext", {}), **raw.get("securityContext", {})}
        if context.get("runAsNonRoot") and context.get("runAsUser") == 0:
            broken.append(f"{found.name} is root and must not be")
        if context.get("privileged") and context.get("allowPrivilegeEscalation") is False:
            broken.append(f"{found.name} is privileged without escalation")
    ports = [probe["httpGet"]["port"] for found in pod.containers if (probe := found.raw.get("livenessProbe", {}))
             and "httpGet" in probe]  # fmt: skip
    return [*broken, *(["two have one admin port"] if len(set(ports)) < len(ports) else [])]


@each(CONVERTED)
def test_the_api_server_would_take_it(case: Case) -> None:
    for target in ((1, 28), (1, 37)):
        after = convert(case.text, "f.yaml", msgspec.structs.replace(OPTIONS, target=target)).after
        pods = [pod for document in read(after, "f.yaml").documents for pod in document.pods]
        assert [broken for pod in pods for broken in rules(pod)] == []


@each([case for case in CASES if case.name in VALIDATED])
def test_the_result_is_valid(case: Case) -> None:
    for document in yaml.safe_load_all(DONE[case.name].after):
        for item in document["items"] if document["kind"] == "List" else [document]:
            kubernetes_validate.validate(item, "1.37", strict=True)


@each(CONVERTED)
def test_json_becomes_the_same_json(case: Case) -> None:
    """A manifest in JSON is converted as the same one in YAML, and stays JSON."""
    (document,) = yaml.safe_load_all(case.text)
    (wanted,) = yaml.safe_load_all(DONE[case.name].after)
    for indent in (None, 2):
        done = convert(json.dumps(document, indent=indent), "f.json", OPTIONS)
        assert json.loads(done.after) == wanted


def pod(text: str, container: int = 0, place: str = "initContainers", options: Options = OPTIONS) -> dict[str, Any]:
    """A container of a pod after its conversion."""
    done = convert(text, "f.yaml", options)
    (document,) = yaml.safe_load_all(done.after)
    found: dict[str, Any] = document["spec"][place][container]
    return found


TAIL = """
kind: Pod
spec:
  terminationGracePeriodSeconds: 45
  containers:
  - {name: app, image: app}
  - name: logs
    image: busybox
    command: [tail, -f, /logs/app.log]
    volumeMounts: [{name: logs, mountPath: /logs}]
  volumes: [{name: logs, emptyDir: {}}]
"""


def test_where_there_are_no_native_sidecars_it_stays_a_container() -> None:
    old = Options(target=(1, 28), registry="", tag="x")
    found = pod(TAIL, 1, "containers", old)
    assert found["image"] == "log-tailer:x"
    assert found["args"] == ["/logs/app.log", "--quiet=20s", "--grace=42s"]
    assert "restartPolicy" not in found


def test_the_pod_keeps_a_container() -> None:
    text = TAIL.replace("  - {name: app, image: app}\n", "")
    done = convert(text, "f.yaml", OPTIONS)
    assert "initContainers" not in done.after


def test_two_of_an_image_have_two_ports() -> None:
    twice = next(case for case in CASES if "one-tail-each" in case.text)
    (document,) = yaml.safe_load_all(DONE[twice.name].after)
    one, two = document["spec"]["initContainers"]
    assert (one["startupProbe"]["httpGet"]["port"], one["args"]) == (9101, ["/var/log/1.log"])
    assert (two["startupProbe"]["httpGet"]["port"], two["args"]) == (9111, ["/var/log/2.log", "--admin=:9111"])


def test_a_port_of_the_application_is_not_taken() -> None:
    found = pod(TAIL.replace("image: app}", "image: app, ports: [{containerPort: 9101}]}"))
    assert found["args"][-1] == "--admin=:9111"


@pytest.mark.parametrize(
    ("volume", "user"),
    [("emptyDir: {}", None), ("persistentVolumeClaim: {claimName: logs}", 0), ("hostPath: {path: /var/log}", 0)],
)
def test_it_stays_root_where_a_volume_may_be_roots_alone(volume: str, user: int | None) -> None:
    found = pod(TAIL.replace("emptyDir: {}", volume))
    assert found["securityContext"].get("runAsUser") == user
    assert found["securityContext"].get("runAsNonRoot") == (None if user == 0 else True)


def test_a_group_of_the_pod_opens_a_claim() -> None:
    text = TAIL.replace("emptyDir: {}", "persistentVolumeClaim: {claimName: logs}")
    found = pod(text.replace("spec:", "spec:\n  securityContext: {fsGroup: 7}"))
    assert found["securityContext"]["runAsNonRoot"] is True


def test_root_for_the_whole_pod_is_not_root_for_it() -> None:
    found = pod(TAIL.replace("spec:", "spec:\n  securityContext: {runAsUser: 0}"))
    assert found["securityContext"]["runAsUser"] == 65532


def test_root_with_a_capability_becomes_restricted() -> None:
    """Its first key goes, new ones come in front of the second, which stays with another value."""
    context = "image: busybox\n    securityContext:\n      runAsUser: 0\n      capabilities:\n        add: [NET_ADMIN]"
    found = pod(TAIL.replace("image: busybox", context))
    assert found["securityContext"]["runAsNonRoot"] is True
    assert found["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_a_memory_limit_is_raised_to_what_it_needs() -> None:
    limit = "image: busybox\n    resources: {limits: {memory: 20Mi, cpu: 1}, requests: {memory: 8Mi}}"
    found = pod(TAIL.replace("image: busybox", limit))
    assert found["resources"] == {"limits": {"memory": "64Mi", "cpu": 1}, "requests": {"memory": "8Mi"}}


def test_a_pod_of_windows_is_left_alone() -> None:
    done = convert(TAIL.replace("spec:", "spec:\n  os: {name: windows}"), "f.yaml", OPTIONS)
    assert (done.after, done.findings) == (done.before, ())


def test_what_an_alias_shares_is_left_alone_and_said() -> None:
    shared = next(case for case in CASES if "*spec" in case.text)
    (finding, _) = DONE[shared.name].findings
    assert reporting.instead(finding).startswith("left alone, for its text stands in several places by an alias; ")


ALONE = [case.text for case in CASES if not case.expected]
ODD = [
    "a:   b   # c\n",
    "{x: [1,\n  2]}\n",
    "- a\n-   b\n",
    "# only a comment\n",
    "kind: Pod\n",
    "kind: Pod\nspec: {containers: 5}\n",
    "kind: Deployment\nspec:\n  template: {spec: {containers: [null, {image: 1}]}}\n",
    '"\\u00e9": é\n',
    "a: |2\n    b\n\n\n",
]
JUNK = ["", "\n", "  ", "{{ x }}", "&a ", "*a", ": ", "- ", "#", "'", '"', "\t", "[", "}", "\r"]


@settings(max_examples=40, deadline=None)
@given(
    parts=st.lists(st.sampled_from(ALONE + ODD) | st.sampled_from(CASES), min_size=1, max_size=5),
    newline=st.sampled_from(["\n", "\r\n"]),
    mark=st.sampled_from(["", "\ufeff"]),
    ending=st.sampled_from(["", "\n", "# the end"]),
)
def test_what_is_not_converted_is_the_same_bytes(parts: list[str | Case], newline: str, mark: str, ending: str) -> None:
    """Each document of a file becomes what it becomes alone; what is nothing of ours stays, to the last blank."""
    texts = [part if isinstance(part, str) else part.text for part in parts]
    wanted = [part if isinstance(part, str) else DONE[part.name].after for part in parts]
    text = mark + ("---\n".join(texts) + ending).replace("\n", newline)
    done = convert(text, "f.yaml", OPTIONS)
    assert done.after == mark + ("---\n".join(wanted) + ending).replace("\n", newline)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**9))
def test_however_a_pod_is_laid_out_it_is_converted_with_its_comments(seed: int) -> None:
    text = Layout(seed).text()
    done = convert(text, "f.yaml", OPTIONS)
    assert {(finding.kind, finding.left) for finding in done.findings} == {("exact", "")}
    assert comments(done.after.replace("\r", "")) == comments(text.replace("\r", ""))
    assert convert(done.after, "f.yaml", OPTIONS).after == done.after


@settings(max_examples=60, deadline=None)
@given(case=st.sampled_from(CASES), data=st.data())
def test_a_damaged_manifest_is_refused_or_converted(case: Case, data: st.DataObject) -> None:
    """Whatever is cut out of a manifest, or put in, the result can be read, or it is said that the manifest cannot."""
    at = data.draw(st.integers(0, len(case.text)))
    length = data.draw(st.integers(0, 30))
    junk = data.draw(
        st.sampled_from(["", "\n", "  ", "{{ x }}", "&a ", "*a", ": ", "- ", "#", "'", '"', "\t", "[", "}", "\r"])
    )
    text = case.text[:at] + junk + case.text[at + length :]
    try:
        done = convert(text, "f.yaml", OPTIONS)
    except WrongManifest as error:
        assert str(error).startswith("f.yaml:")
    else:
        read(done.after, "f.yaml")


ODD_LISTS = """\
kind: Pod
spec:
  containers: [{name: app, image: a}, {name: t, image: busybox, args: [tail, -f, /l/x],
    volumeMounts: [{name: l, mountPath: /l}]}]
  initContainers:
  - {name: w, image: busybox, command: [sh, -c, "until nc -z a 1; do sleep 1; done"]}
  volumes: [ {name: l, emptyDir: {}}, ]   # spaced
---
kind: Pod
spec:
  initContainers:
  - ? name
    : w
    image: busybox
    command: [sh, -c, "until nc -z a 1; do sleep 1; done"]
"""


def test_what_cannot_be_moved_is_converted_in_its_place_and_what_cannot_be_edited_stops_no_other() -> None:
    done = convert(ODD_LISTS, "f.yaml", OPTIONS)
    tail, wait, odd = done.findings
    assert (tail.kind, wait.kind, odd.kind) == ("exact", "exact", "partial")
    assert any(note.startswith("it stays a second container") for note in tail.notes)
    assert odd.left == "it is written in a way that no edit keeps"
    first, second = yaml.safe_load_all(done.after)
    assert first["spec"]["containers"][1]["args"][0] == "/l/x"
    assert second == list(yaml.safe_load_all(ODD_LISTS))[1]
    assert (
        "  volumes: [ {name: l, emptyDir: {}}, {name: t-state, emptyDir: {sizeLimit: 16Mi}}, ]   # spaced" in done.after
    )


def test_a_patch_without_an_image_is_left_alone_and_said() -> None:
    done = convert(TAIL.replace("    image: busybox\n", ""), "f.yaml", OPTIONS)
    assert done.after == done.before
    assert all("it has no image here" in reporting.instead(finding) for finding in done.findings)
    assert [finding.kind for finding in done.findings] == ["partial"]


def test_what_a_person_should_know_is_noted() -> None:
    text = TAIL.replace("image: busybox", "image: busybox\n    ports: [{name: page, containerPort: 80}]")
    done = convert(text.replace("spec:", "spec:\n  hostNetwork: true"), "f.yaml", OPTIONS)
    notes = "\n".join(note for finding in done.findings for note in finding.notes)
    assert "a Service that means its port by the name page should give the number" in notes
    assert "the pod has the node's network" in notes


def test_a_sleep_before_the_application_is_not_left_out_in_silence() -> None:
    wait = "- {name: w, image: busybox, command: [sh, -c, 'until nc -z db 1; do sleep 2; done; sleep 10']}"
    (finding,) = convert(
        f"kind: Pod\nspec:\n  initContainers:\n  {wait}\n  containers: []\n", "f.yaml", OPTIONS
    ).findings
    assert finding.kind == "exact"
    assert [note for note in finding.notes if note.startswith("its sleep 10 is left out")]


ALIAS = """\
kind: List
items:
- {kind: X, a: &context {fsGroup: 1}}
- kind: Pod
  spec:
    securityContext: *context
    initContainers:
    - {name: wait, image: busybox, command: [sh, -c, "until nc -z db 1; do sleep 1; done"]}
    containers:
    - {name: app, image: app}
"""
FOLLOWER = "    - {name: t, image: busybox, command: [tail, -f, /l/x], volumeMounts: [{name: l, mountPath: /l}]}\n"


def test_an_alias_elsewhere_in_the_pod_is_no_obstacle() -> None:
    """The pod's security context is shared; what is edited is not."""
    done = convert(ALIAS, "f.yaml", OPTIONS)
    assert [finding.kind for finding in done.findings] == ["exact"]
    assert "securityContext: *context\n" in done.after
    _, finding = convert(ALIAS + FOLLOWER, "f.yaml", OPTIONS).findings
    assert "an alias in it" in finding.left
