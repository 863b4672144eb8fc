"""Fresh seeds of the torture test. Each failure prints its seed, which torture.py --seed replays."""

from __future__ import annotations

import random

import pytest

from tests.servers import torture

SEEDS = [random.SystemRandom().randrange(1_000_000) for _ in range(4)]


@pytest.mark.parametrize("turn", range(len(SEEDS)))
def test_nothing_is_missing_torn_or_repeated_beyond_the_checkpoint(turn):
    """Every second one with the tailer killed at random points, every fourth through a receiver that misbehaves."""
    seed = SEEDS[turn]
    trial = torture.run(seed, kills=turn % 2 == 1, forward=turn % 4 >= 2)
    flags = f"--seed {seed} --kills {'yes' if trial.kills else 'no'}{' --forward' if trial.forward else ''}"
    print(trial)
    assert trial.passed, f"again: python tests/servers/torture.py {flags}\n{trial}"
    assert sum(trial.written.values()) > 1000
