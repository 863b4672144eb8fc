"""Fresh seeds of the shipper's torture test. Each failure prints its seed, which shipper_torture.py --seed replays."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

from tests.servers import shipper_torture

SEEDS = [random.SystemRandom().randrange(1_000_000) for _ in range(4)]


def test_each_line_is_in_the_bucket_once_whatever_is_killed_when(s3):
    """Several trials at a time: most of it is waiting for applications that write, or do not."""
    with ThreadPoolExecutor(4) as pool:
        trials = list(pool.map(lambda seed: shipper_torture.run(seed, s3), SEEDS))
    for trial in trials:
        print(trial)
    failed = [trial for trial in trials if not trial.passed]
    again = " ".join(f"--seed {trial.seed}" for trial in failed)
    assert not failed, f"again: python tests/servers/shipper_torture.py {again}\n" + "\n".join(map(str, failed))
    assert sum(trial.written for trial in trials) > 300
    assert sum(trial.killed for trial in trials) >= 4
