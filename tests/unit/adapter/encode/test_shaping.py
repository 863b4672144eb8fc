from __future__ import annotations

from pathlib import Path

import pytest

from sidecars.adapter.encode.shaping import Shaping
from sidecars.adapter.table import Field, Objects, Record, Table
from sidecars.core.errors import WrongSettings
from tests.unit.adapter.encode.samples import settings, shaping


def shaped(record: Record, origin: str = "/logs/a.log", **given: object) -> Record:
    (after,) = shaping(**given).records([Objects([record], [b""])], origin)
    return after


def test_fields_are_renamed_then_dropped_then_added() -> None:
    record: Record = {"a": 1, "b": 2, "c": 3}
    assert shaped(record, rename=("a=x",), drop=("x", "b"), add=("b=new",)) == {"c": 3, "b": "new"}


def test_one_flag_may_drop_several_fields() -> None:
    assert shaped({"a": 1, "b": 2, "c": 3}, drop=("a, b",)) == {"c": 3}


def test_two_fields_can_change_names() -> None:
    assert shaped({"a": 1, "b": 2}, rename=("a=b", "b=a")) == {"b": 1, "a": 2}


def test_what_is_redacted_is_so_before_it_is_renamed() -> None:
    assert shaped({"password": "x"}, rename=("password=note",), redact=("token",)) == {"note": "***"}


def test_an_added_field_knows_its_file_and_pod() -> None:
    given = {"pod_name": "web-0", "pod_namespace": "shop", "node_name": "n1"}
    record = shaped({}, "/logs/web/a.log", add=("from={namespace}/{pod}@{node}:{name}", "path={file}"), **given)
    assert record["from"] == "shop/web-0@n1:a.log"
    assert record["path"] == "/logs/web/a.log"


def test_a_field_that_is_added_replaces_one_but_the_pod_does_not() -> None:
    record: Record = {"app": "its", "pod": "its"}
    assert shaped(record, add=("app=ours",), pod_name="web-0") == {"app": "ours", "pod": "its"}


def test_the_file_is_added_where_there_may_be_several(tmp_path: Path) -> None:
    assert "file" not in shaped({})
    for paths in (("/a", "/b"), ("/logs/*.log",), (str(tmp_path),)):
        assert shaped({}, paths=paths)["file"] == "/logs/a.log"
        assert "file" not in shaped({}, "stdin", paths=paths)


def test_a_raw_line_is_the_message_of_what_has_none() -> None:
    table = Table([Field("a"), Field("message")], [[b"1", b"2"], [b"", b"m"]], [b"line 1", b"line 2"], True)
    assert [message for _, message in shaping().documents([table], "x")] == ["line 1", "m"]


def test_a_raw_line_does_not_tell_what_was_dropped() -> None:
    table = Table([Field("a"), Field("b")], [[b"1"], [b"secret"]], [b"1 secret"], True)
    assert [message for _, message in shaping(drop=("b",)).documents([table], "x")] == ["1"]


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"rename": ("a",)}, "--rename is 'a', expected OLD=NEW"),
        ({"rename": ("a=",)}, "give --drop a"),
        ({"rename": ("=b",)}, "--rename is '=b'"),
        ({"rename": ("a=b", "a=c")}, "keep one"),
        ({"drop": ("",)}, "--drop is ''"),
        ({"drop": ("a=b",)}, "--drop is 'a=b'"),
        ({"add": ("a",)}, "--add is 'a', expected FIELD=VALUE"),
        ({"add": ("a={pod}",)}, "POD_NAME is not set"),
        ({"add": ("a={host}",)}, r"holds \{host\}, expected"),
        ({"redact": ("email,mail",)}, "--redact is 'mail', expected email, ip or token"),
        ({"redact_pattern": ("(",)}, "--redact-pattern is '\\('"),
        ({"redact_pattern": ("a*",)}, "matches the empty text"),
    ],
)
def test_a_wrong_text_is_refused_with_what_to_do(given: dict[str, object], error: str) -> None:
    with pytest.raises(WrongSettings, match=error):
        Shaping(settings(**given))
