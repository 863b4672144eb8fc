"""Fresh seeds of the syncer's crash test. Each failure prints its seed, which syncer_torture.py --seed replays."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

from tests.servers import syncer_torture

SEEDS = [random.SystemRandom().randrange(1_000_000) for _ in range(4)]


def test_what_is_published_is_whole_at_every_instant_whatever_is_killed_when():
    """Several trials at a time: most of a trial is waiting for the moment of the next kill."""
    with ThreadPoolExecutor(4) as pool:
        trials = list(pool.map(lambda seed: syncer_torture.run(seed, rounds=1), SEEDS))
    for trial in trials:
        print(trial)
    failed = [trial for trial in trials if not trial.passed]
    again = " ".join(f"--seed {trial.seed}" for trial in failed)
    assert not failed, f"again: python tests/servers/syncer_torture.py {again}\n" + "\n".join(map(str, failed))
    assert sum(trial.killed for trial in trials) >= 8
    assert sum(trial.counts.get("whole", 0) for trial in trials) > 50
