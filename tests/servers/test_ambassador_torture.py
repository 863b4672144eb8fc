"""Fresh seeds of the ambassador's torture. Each failure prints its seed, which ambassador_torture.py --seed replays."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

from tests.servers import ambassador_torture, ambassador_torture_http
from tests.servers.redis_server import needs_redis

SEEDS = [random.SystemRandom().randrange(1_000_000) for _ in range(4)]
CLIENTS = 10
SECONDS = 0.8
HTTP_CLIENTS = 60
HTTP_SECONDS = 1.0


@needs_redis
def test_every_byte_and_every_answer_is_right_whatever_fails_and_is_killed():
    """All trials at once: most of a trial is waiting for what is done to it."""
    with ThreadPoolExecutor(len(SEEDS)) as pool:
        trials = list(pool.map(lambda seed: ambassador_torture.run(seed, CLIENTS, SECONDS), SEEDS))
    for trial in trials:
        print(trial)
    failed = [trial for trial in trials if not trial.passed]
    again = " ".join(f"--seed {trial.seed}" for trial in failed)
    options = f"--clients {CLIENTS} --seconds {SECONDS} {again}"
    assert not failed, f"again: python tests/servers/ambassador_torture.py {options}\n" + "\n".join(map(str, failed))
    assert sum(trial.counts["whole"] for trial in trials) > 50
    assert sum(trial.counts["answers"] for trial in trials) > 50
    assert sum(sum(trial.faults.values()) for trial in trials) >= 4


def test_each_request_is_answered_with_its_own_answer_and_made_once_whatever_is_killed():
    trial = ambassador_torture_http.run(SEEDS[0], HTTP_CLIENTS, HTTP_SECONDS)
    print(trial)
    options = f"--only http --clients {HTTP_CLIENTS} --seconds {HTTP_SECONDS} --seed {trial.seed}"
    assert trial.passed, f"again: python tests/servers/ambassador_torture.py {options}\n{trial}"
    assert trial.counts["200"] > 50
    assert sum(trial.faults.values())
