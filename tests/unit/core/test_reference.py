"""The reference pages and JSON Schemas say what is declared, and what load reads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from sidecars.core import reference
from sidecars.core.declaration import declared
from sidecars.tailer.settings import PREFIX, PROG, Settings

REFERENCE = Path(__file__).parents[3] / "docs" / "reference"
MODULES = [
    "sidecars.tailer.settings",
    "sidecars.shipper.settings",
    "sidecars.adapter.settings",
    "sidecars.syncer.settings",
    "sidecars.ambassador.settings",
    "sidecars.init.command",
]


@pytest.mark.parametrize("module", MODULES)
def test_the_committed_reference_is_what_the_declaration_makes(module: str) -> None:
    for name, text in reference.files(module).items():
        assert (REFERENCE / name).read_text() == text, f"run: python -m sidecars.core.reference {module} docs/reference"


def test_the_command_writes_the_reference(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "sidecars.core.reference", MODULES[0], str(tmp_path)], check=True, timeout=30)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == reference.files(MODULES[0])


def test_the_page_names_every_flag_variable_and_key() -> None:
    page = reference.page(Settings, PROG, PREFIX)
    for setting in declared(Settings, PREFIX):
        for name in (setting.flag, *setting.variables):
            assert f"`{name}" in page
    for key in ("sources[].from", "outputs[].stdout.label", "outputs[].forward.key_file"):
        assert f"`{key}`" in page


CONFIG: list[tuple[dict[str, Any], bool]] = [
    ({}, True),
    ({"grace": 5, "chunk": 1}, False),
    ({"grace": "1h30m", "max_line": "64KiB", "admin": "off", "format": "json", "once": True}, True),
    ({"grace": "${GRACE}", "max_line": "${MAX:-64KiB}", "format": "${FORMAT}"}, True),
    ({"admin": None, "multiline": None, "rate_limit": 5}, True),
    ({"grace": "soon"}, False),
    ({"grace": -1}, False),
    ({"format": "xml"}, False),
    ({"pod_name": "x"}, False),
    ({"provenance": {}}, False),
    ({"forward_key": "hunter2"}, False),
    ({"forward_key": "${KEY}"}, True),
    ({"forward_key_file": "/secrets/key"}, True),
    ({"paths": "/logs"}, False),
    ({"sources": [{"paths": ["/logs/*.log"], "from": "end", "multiline": "java"}]}, True),
    ({"sources": [{"from": "end"}]}, False),
    ({"outputs": [{"stdout": {"label": "path"}}, {"forward": {"address": "fluentd:24224", "tls": True}}]}, True),
    ({"outputs": [{"forward": {"address": "fluentd:24224", "password": "hunter2"}}]}, False),
    ({"outputs": [{"kafka": {}}]}, False),
]


@pytest.mark.parametrize(("config", "valid"), CONFIG)
def test_the_schema_takes_what_the_file_may_hold(config: dict[str, Any], valid: bool) -> None:
    schema = reference.schema(Settings, PROG)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert jsonschema.Draft202012Validator(schema).is_valid(config) is valid
