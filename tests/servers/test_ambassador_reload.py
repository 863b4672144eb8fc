"""New settings by themselves: what the kubelet swaps and what an editor writes is taken, and what is wrong is not."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.servers.ambassador import Ambassador, Upstream, configured, exchange, naming, received, running
from tests.servers.redis_server import RedisServer, needs_redis


class ConfigMap:
    """A directory as the kubelet mounts it: a symlink beside the files' own is swapped, and all change at once."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._name = name
        self._count = 0
        self.path = directory / name

    def write(self, text: str) -> str:
        """Publish a text; the path that programs read it by."""
        self._count += 1
        version = self._directory / f"..{self._count}"
        version.mkdir(parents=True)
        (version / self._name).write_text(text)
        (self._directory / "..new").symlink_to(version.name)
        os.replace(self._directory / "..new", self._directory / "..data")
        if not self.path.is_symlink():
            self.path.symlink_to(f"..data/{self._name}")
        return str(self.path)


@pytest.fixture
def old() -> Iterator[Upstream]:
    with Upstream(naming(b"old")) as upstream:
        yield upstream


@pytest.fixture
def new() -> Iterator[Upstream]:
    with Upstream(naming(b"new")) as upstream:
        yield upstream


def to(upstream: Upstream, **settings: Any) -> dict[str, Any]:
    return {"listen": ":0", "upstreams": [{"address": upstream.address}], **settings}


def said_by(ambassador: Ambassador) -> bytes:
    with ambassador.connect() as client:
        return received(client, 3)


def times(ambassador: Ambassador, event: str, count: int) -> dict[str, Any]:
    """The event, once it was said so often."""
    ambassador.until(lambda: len(ambassador.said(event)) >= count)
    return ambassador.said(event)[count - 1]


def test_a_config_map_that_is_swapped_is_taken_under_load_and_nothing_is_dropped(old, new, tmp_path):
    config = ConfigMap(tmp_path / "config", "ambassador.json")
    with running("--config", config.write(json.dumps({"listeners": [to(old)]}))) as ambassador:
        done: list[bytes] = []
        failed: list[object] = []
        over = threading.Event()

        def load() -> None:
            while not over.is_set():
                try:
                    with ambassador.connect() as client:
                        answer = exchange(client, b"x" * 10_000)
                        (done if answer[3:] == b"x" * 10_000 else failed).append(answer[:3])
                except OSError as error:
                    failed.append(error)

        threads = [threading.Thread(target=load) for _ in range(4)]
        with ambassador.connect() as staying:
            assert received(staying, 3) == b"old"
            for each in threads:
                each.start()
            try:
                for count, upstream in enumerate((old, new), 1):
                    # What stays is not touched: connections to an address that is gone are closed, unless told so.
                    listener = to(upstream, close_removed=False, max_age=f"{count}h")
                    config.write(json.dumps({"listeners": [listener]}))
                    assert times(ambassador, "settings reloaded", count)["changed"] == [":0"]
                    target = len(done) + 20
                    ambassador.until(lambda target=target: len(done) > target)
            finally:
                over.set()
                for each in threads:
                    each.join(30)
            assert exchange(staying, b"goes on") == b"goes on"
        print(f"{len(done)} connections through 2 swaps, {len(failed)} failed")
        assert failed == []
        assert set(done) == {b"old", b"new"}
        assert said_by(ambassador) == b"new"


BAD = [
    ('{"listeners": [', "is not valid JSON"),
    ('{"listeners": [{"listen": ":0"}]}', "upstreams"),
    ('{"listeners": []}', "there is nothing to carry"),
    ('{"listeners": [{"listen": ":0", "upstreams": [{"address": "db"}]}]}', "has address 'db', expected HOST:PORT"),
    ('{"listenrs": []}', "listenrs"),
]


def test_a_bad_config_is_said_and_kept_out_and_the_next_good_one_is_taken(old, new, tmp_path):
    config = tmp_path / "ambassador.json"
    with running(configured(config, to(old))) as ambassador:
        for count, (text, error) in enumerate(BAD, 1):
            config.write_text(text)
            ambassador.send(signal.SIGHUP)
            assert error in times(ambassador, "new settings refused", count)["error"]
            assert said_by(ambassador) == b"old"
        assert ambassador.sum("reloads_total", result="refused") == len(BAD)
        assert ambassador.sum("reloads_total", result="accepted") == 0
        configured(config, to(new))
        ambassador.wait_for("settings reloaded")
        assert said_by(ambassador) == b"new"


def test_a_config_that_is_gone_is_waited_for(old, new, tmp_path):
    config = tmp_path / "ambassador.json"
    with running(configured(config, to(old))) as ambassador:
        config.unlink()
        ambassador.send(signal.SIGHUP)
        assert "is it mounted" in ambassador.wait_for("new settings refused")["error"]
        assert said_by(ambassador) == b"old"
        configured(config, to(new))
        ambassador.wait_for("settings reloaded")
        assert said_by(ambassador) == b"new"


def test_what_needs_a_restart_is_said_and_the_log_s_level_does_not(old, tmp_path):
    config = tmp_path / "ambassador.json"
    with running(configured(config, to(old))) as ambassador:
        configured(config, to(old), log_level="warning", workers=2, drain_close_listeners=True)
        ambassador.send(signal.SIGHUP)
        assert ambassador.wait_for("settings need a restart")["settings"] == ["workers", "drain_close_listeners"]
        ambassador.send(signal.SIGHUP)
        times(ambassador, "settings need a restart", 2)
        assert len(ambassador.said("settings reloaded")) == 1


def test_flags_stay_and_a_variable_in_the_file_is_put_in_again(old, new, tmp_path):
    config = tmp_path / "ambassador.json"
    listener = {"listen": ":0", "upstreams": [{"address": "${UPSTREAM}"}]}
    environ = {"UPSTREAM": old.address}
    with running(configured(config, listener), "--workers=1", environ=environ) as ambassador:
        configured(config, {**listener, "max_age": "1h"}, workers=2)
        ambassador.send(signal.SIGHUP)
        assert ambassador.wait_for("settings reloaded")["changed"] == [":0"]
        assert said_by(ambassador) == b"old"
        assert ambassador.said("settings need a restart") == []


def test_without_a_file_sighup_changes_nothing(old):
    with running(f":0=tcp://{old.address}") as ambassador:
        ambassador.send(signal.SIGHUP)
        reloaded = ambassador.wait_for("settings reloaded")
        assert (reloaded["added"], reloaded["removed"], reloaded["changed"]) == ([], [], [])
        assert said_by(ambassador) == b"old"


@needs_redis
def test_reloads_under_load_drop_no_client_of_redis_and_no_answer(tmp_path):
    config = tmp_path / "ambassador.json"
    with RedisServer() as first, RedisServer() as second:
        shards = {"listen": ":0", "upstreams": [{"address": first.path}, {"address": second.path}]}
        with running(configured(config, {**shards, "redis": {"hash": "md5"}})) as ambassador:
            port = ambassador.listens_at()
            done = [0] * 4
            wrong: list[object] = []
            over = threading.Event()

            def load(number: int) -> None:
                # One connection each, never made again: one that is dropped is an error.
                retry = Retry(NoBackoff(), 0)
                with redis.Redis(port=port, single_connection_client=True, retry=retry) as client:
                    while not over.is_set():
                        try:
                            values = {f"{number}:{done[number]}:{key}": f"{key}" for key in range(8)}
                            client.mset(values)
                            got = client.mget(list(values))
                            if got != [value.encode() for value in values.values()]:
                                wrong.append(got)
                        except redis.RedisError as error:
                            wrong.append(error)
                            return
                        done[number] += 1

            threads = [threading.Thread(target=load, args=(number,)) for number in range(4)]
            for each in threads:
                each.start()
            try:
                for count in range(1, 6):
                    target = sum(done) + 40
                    ambassador.until(lambda target=target: sum(done) > target or wrong)
                    settings = {"hash": "md5", "timeout": f"{count + 10}s", "max_request": f"{count}MiB"}
                    configured(config, {**shards, "redis": settings})
                    ambassador.send(signal.SIGHUP)
                    assert times(ambassador, "settings reloaded", count)["changed"] == [":0"]
            finally:
                over.set()
                for each in threads:
                    each.join(30)
            print(f"{16 * sum(done)} keys through 5 reloads on {len(threads)} connections, {len(wrong)} wrong")
            assert wrong == []
            assert min(done) > 0
            assert ambassador.sum("connections_total", listener=":0") == 4
