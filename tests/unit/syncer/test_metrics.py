"""git-syncer's numbers, as text and as the client library gives them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from sidecars.syncer.metrics import Metrics, number


def lines(metrics: Metrics) -> list[str]:
    return metrics.text().decode().splitlines()


def test_counters_print_as_whole_numbers() -> None:
    metrics = Metrics()
    metrics.of().synced("success", 0.25)
    assert 'git_sync_count_total{status="success"} 1' in lines(metrics)
    assert 'git_sync_duration_seconds_sum{status="success"} 0.25' in lines(metrics)
    assert 'git_sync_duration_seconds_count{status="success"} 1' in lines(metrics)


def test_a_series_with_labels_appears_on_first_use_and_one_without_from_the_start() -> None:
    metrics = Metrics()
    assert "git_fetch_count_total 0" in lines(metrics)
    assert not [line for line in lines(metrics) if line.startswith("git_sync_count_total")]
    metrics.of().synced("noop", 0.1)
    metrics.of().fetched()
    assert 'git_sync_count_total{status="noop"} 1' in lines(metrics)
    assert "git_fetch_count_total 1" in lines(metrics)


def test_each_of_git_syncs_metrics_has_its_name_and_kind() -> None:
    metrics = Metrics()
    measures = metrics.of()
    measures.synced("error", 1)
    measures.asked("success")
    measures.token_refreshed("error")
    measures.hook_run("pre-publish-exechook", "success")
    text = lines(metrics)
    for kind in (
        "git_sync_duration_seconds summary",
        "git_sync_count_total counter",
        "git_fetch_count_total counter",
        "git_sync_askpass_calls counter",
        "git_sync_refresh_github_app_token_count counter",
        "git_sync_hook_run_count_total counter",
    ):
        assert f"# TYPE {kind}" in text
    assert 'git_sync_askpass_calls{status="success"} 1' in text
    assert 'git_sync_refresh_github_app_token_count{status="error"} 1' in text
    assert 'git_sync_hook_run_count_total{name="pre-publish-exechook",status="success"} 1' in text


def test_the_process_is_told_of_and_nothing_says_when_it_was_created() -> None:
    text = Metrics().text().decode()
    assert "\nprocess_resident_memory_bytes " in text
    assert "_created" not in text


def test_only_the_commit_that_is_published_is_told_of() -> None:
    metrics = Metrics(("a", "b"))
    metrics.of("a").published("1" * 40, "main")
    metrics.of("b").published("2" * 40, "main")
    metrics.of("b").published("3" * 40, 'odd"\\\nref')
    told = [line for line in lines(metrics) if line.startswith("git_syncer_commit_info")]
    assert told == [
        f'git_syncer_commit_info{{hash="{"1" * 40}",ref="main",repository="a"}} 1',
        f'git_syncer_commit_info{{hash="{"3" * 40}",ref="odd\\"\\\\\\nref",repository="b"}} 1',
    ]


def test_the_label_repository_is_there_with_several_only() -> None:
    one, two = Metrics(("site",)), Metrics(("site", "dags"))
    for metrics in (one, two):
        metrics.of("site").failures(3)
    assert "git_syncer_failure_streak 3" in lines(one)
    assert 'git_syncer_failure_streak{repository="site"} 3' in lines(two)
    assert 'git_syncer_failure_streak{repository="dags"} 0' in lines(two)


def test_the_admin_door_shows_the_same_numbers() -> None:
    metrics = Metrics()
    metrics.of().synced("success", 0.5)
    metrics.of().asked("error")
    registry = CollectorRegistry()
    metrics.show_in(registry)
    told = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
    }
    assert told["git_sync_count_total", "success"] == 1
    assert told["git_sync_duration_seconds_count", "success"] == 1
    assert told["git_sync_askpass_calls", "error"] == 1


def test_numbers_are_printed_without_a_point_where_they_have_none() -> None:
    assert [number(each) for each in (0, 1.0, 1e7, 0.25, 1795614705.86)] == [
        "0",
        "1",
        "10000000",
        "0.25",
        "1795614705.86",
    ]
