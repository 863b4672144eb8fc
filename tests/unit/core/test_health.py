"""What each probe is told in each state."""

from __future__ import annotations

from sidecars.core.health import Health


def test_a_health_starts_fails_recovers_and_drains() -> None:
    health = Health()
    assert (health.state, health.why_not_started()) == ("starting", ["starting"])
    health.starting("state is locked")
    assert health.why_not_ready() == health.why_not_delivering() == ["state is locked"]
    health.started()
    assert (health.state, health.why_not_ready()) == ("ready", [])
    health.failing("s3", "no route")
    health.failing("forward", "refused")
    assert (health.state, health.why_not_ready()) == ("failing", [])
    assert health.why_not_delivering() == ["forward: refused", "s3: no route"]
    health.working("s3")
    health.working("forward")
    health.working("never failed")
    assert health.why_not_delivering() == []
    health.draining("SIGTERM")
    assert (health.state, health.why_not_ready(), health.why_not_started()) == ("draining", ["draining: SIGTERM"], [])


def test_readiness_depends_on_delivery_on_request() -> None:
    health = Health(ready_needs_delivery=True)
    health.started()
    health.failing("s3", "no route")
    assert health.why_not_ready() == ["s3: no route"]
