"""What the probes are told: whether the service has started, takes work, and delivers it."""

from __future__ import annotations


class Health:
    """The state behind /startupz, /readyz and /healthz. A reason is a text for people; no reason means well.

    Starting until started() is called; failing for as long as one name (of an output, an upstream) has a reason.
    """

    def __init__(self, *, ready_needs_delivery: bool = False) -> None:
        self._ready_needs_delivery = ready_needs_delivery
        self._starting: str | None = "starting"
        self._draining: str | None = None
        self._failing: dict[str, str] = {}

    def starting(self, reason: str) -> None:
        """Say what the start waits for."""
        self._starting = reason

    def started(self) -> None:
        """The service watches or listens: the application may start."""
        self._starting = None

    def draining(self, reason: str) -> None:
        """The service takes nothing new."""
        self._draining = reason

    def failing(self, name: str, reason: str) -> None:
        """Delivery through the named output or upstream does not work now."""
        self._failing[name] = reason

    def working(self, name: str) -> None:
        """The named output or upstream works again, or is gone."""
        self._failing.pop(name, None)

    @property
    def state(self) -> str:
        """The one word for all this: starting, draining, failing or ready."""
        if self._draining:
            return "draining"
        if self._starting:
            return "starting"
        return "failing" if self._failing else "ready"

    def why_not_started(self) -> list[str]:
        """Reasons for /startupz."""
        return [self._starting] if self._starting else []

    def why_not_ready(self) -> list[str]:
        """Reasons for /readyz. A failing delivery is one only on request: it would take the whole pod out."""
        reasons = self.why_not_started()
        if self._draining:
            reasons.append(f"draining: {self._draining}")
        return reasons + (self._why_failing() if self._ready_needs_delivery else [])

    def why_not_delivering(self) -> list[str]:
        """Reasons for /healthz."""
        return self.why_not_started() + self._why_failing()

    def _why_failing(self) -> list[str]:
        return [f"{name}: {reason}" for name, reason in sorted(self._failing.items())]
