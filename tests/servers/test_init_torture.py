"""Fresh seeds of pod-init's kill test. Each failure prints its seed, which init_torture.py --seed replays."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

from tests.servers import init_torture

SEEDS = [random.SystemRandom().randrange(1_000_000) for _ in range(8)]


def test_a_manifest_never_lies_whatever_is_killed_when() -> None:
    with init_torture.Crashers() as crashers, ThreadPoolExecutor(2) as pool:
        trials = list(pool.map(lambda seed: init_torture.run(seed, crashers), SEEDS))
    for trial in trials:
        print(trial)
    failed = [trial for trial in trials if not trial.passed]
    again = " ".join(f"--seed {trial.seed}" for trial in failed)
    assert not failed, f"again: python tests/servers/init_torture.py {again}\n" + "\n".join(map(str, failed))
    assert sum(trial.killed for trial in trials) >= 3
    assert sum(trial.believed for trial in trials) >= 8
