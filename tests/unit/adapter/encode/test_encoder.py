from __future__ import annotations

import pickle

import pytest

from sidecars.adapter.encode import encoder
from sidecars.adapter.table import Objects
from tests.unit.adapter.encode.samples import settings


@pytest.mark.parametrize("to", ["jsonl", "ecs", "otlp", "gelf", "logfmt", "csv", "template"])
def test_an_encoder_reaches_a_worker_process(to: str) -> None:
    shape = {"redact": ("email", "ip", "token"), "redact_pattern": ("x+",), "add": ("a={name}",), "rename": ("b=c",)}
    given = {"template": "{message} {a}"} if to == "template" else {}
    sent = pickle.loads(pickle.dumps(encoder(settings(**shape, **given), to)))
    made = b"".join(
        sent.encode([Objects([{"message": "from 10.0.0.1", "time": "1970-01-01T00:00:00Z"}], [b""])], "/l/f")
    )
    assert b"from ***" in made
    assert b"f" in made


@pytest.mark.parametrize("to", ["jsonl", "ecs", "otlp", "gelf", "logfmt", "csv", "template"])
def test_nothing_makes_nothing(to: str) -> None:
    given = {"template": "{message}"} if to == "template" else {}
    one = encoder(settings(**given), to)
    assert b"".join(one.encode([], "x")) == b""
