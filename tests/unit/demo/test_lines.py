from __future__ import annotations

import json
import re
from random import Random

import pytest

from sidecars.demo import lines

NOON = 1795435200.0625  # 2026-11-23 12:00:00 UTC and a bit

COMBINED = re.compile(
    r'203\.0\.113\.\d+ - - \[23/Nov/2026:12:00:00 \+0000\] "(GET|POST) /\S* HTTP/1\.1" \d{3} \d+ "[^"]+" "[^"]+"\n'
)
JAVA = re.compile(
    r"2026-11-23 12:00:00,062 (INFO |ERROR) \[http-nio-8080-exec-\d\] shop\.StockService - item 7 \w+\n"
    r"(shop\.StockException: .*\n(\tat .*\n){3}Caused by: .*\n\tat .*\n\t\.\.\. 3 more\n)?"
)
BACKUP = re.compile(r"2026-11-23T12:00:00\+00:00 backup 7 done: \d+ files, \d+ MiB, 0 errors\n")


@pytest.mark.parametrize(("record", "shape"), [(lines.access, COMBINED), (lines.java, JAVA), (lines.backup, BACKUP)])
def test_a_record_has_the_shape_of_its_kind(record: lines.Record, shape: re.Pattern[str]) -> None:
    for seed in range(300):
        assert shape.fullmatch(record(Random(seed), 7, NOON))


def test_an_order_is_one_line_of_json() -> None:
    for seed in range(300):
        line = lines.order(Random(seed), 7, NOON)
        assert line.count("\n") == 1 and line.endswith("\n")
        order = json.loads(line)
        assert order["order"] == 7
        assert order["time"] == "2026-11-23T12:00:00.062Z"


def test_some_java_records_have_a_stack_trace_and_most_have_none() -> None:
    records = [lines.java(Random(seed), 7, NOON) for seed in range(300)]
    assert 30 < sum("Caused by" in record for record in records) < 150


@pytest.mark.parametrize("record", [lines.access, lines.order, lines.java, lines.backup])
def test_the_same_seed_gives_the_same_record(record: lines.Record) -> None:
    assert record(Random(1), 7, NOON) == record(Random(1), 7, NOON)
    assert len({record(Random(seed), 7, NOON) for seed in range(30)}) > 10
