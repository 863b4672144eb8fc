"""Where records go: each output takes its portions, delivers them, and acknowledges them then."""

from __future__ import annotations

from typing import Protocol

from sidecars.adapter.deliver.metrics import Delivered
from sidecars.adapter.deliver.pipeline import Pipeline
from sidecars.adapter.deliver.specs import File, GelfTcp, GelfUdp, Otlp, Spec, Stdout, read_output, read_outputs
from sidecars.adapter.portion import Intake, Portion
from sidecars.adapter.settings import Settings
from sidecars.core.forward.settings import Forward
from sidecars.core.health import Health

__all__ = ["Output", "Pipeline", "Spec", "build", "read_output", "read_outputs"]


class Output(Protocol):
    """Where portions go."""

    name: str

    async def deliver(self, intake: Intake) -> None:
        """Deliver and acknowledge until the intake ends."""


def build(settings: Settings, spec: Spec, pipeline: Pipeline, health: Health) -> Output:
    """Make an output, which uses the pipeline in one thread. Each imports what it needs, and no other pays for it."""
    delivered = Delivered(spec.name, pipeline)
    match spec.output:
        case Stdout():
            from sidecars.adapter.deliver.streams import Rendering
            from sidecars.core.stdout import Stdout as Writer

            return Writer[Portion](Rendering(spec, pipeline, delivered), delivered, health)
        case File():
            from sidecars.adapter.deliver.file import FileOutput
            from sidecars.adapter.deliver.streams import Rendering

            rendering = Rendering(spec, pipeline, delivered)
            return FileOutput(spec.name, spec.output.address, rendering, delivered, health)
        case Otlp():
            from sidecars.adapter.deliver.otlp import push as push_otlp

            return push_otlp(spec.name, spec.output, settings.otlp_token, pipeline, delivered, health)
        case GelfUdp():
            from sidecars.adapter.deliver.gelf_udp import push as push_udp

            return push_udp(spec.name, spec.output, pipeline, delivered, health)
        case GelfTcp():
            from sidecars.adapter.deliver.gelf_tcp import push as push_tcp

            return push_tcp(spec.name, spec.output, pipeline, delivered, health)
        case Forward():
            from sidecars.adapter.deliver.forward import shipping

            return shipping(spec.name, spec.output, settings, pipeline, delivered, health)
