"""Random histories on real PostgreSQL do what the specification says, step by step."""

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.support.machine import StoreMachine
from tests.support.servers import POSTGRES_BIN
from tests.support.store import Parts, Store, as_many_streams, by_postgres, by_redis

IN_CI = bool(os.environ.get("CI"))
AGAIN = POSTGRES_BIN in os.environ
"""A run against servers of other versions: a statement that one of them takes otherwise shows in few histories."""
HISTORIES = settings(
    max_examples=60 if AGAIN else 150,
    stateful_step_count=40,
    deadline=None,
    derandomize=IN_CI,
    database=None,
    phases=[Phase.explicit, Phase.generate] if IN_CI else [Phase.explicit, Phase.generate, Phase.shrink],
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("dispatch", ["postgres", "many streams", "redis"])
def test_the_store_does_what_the_model_does(
    request: pytest.FixtureRequest, database_url: str, dispatch: str
) -> None:
    """After every step of 150 random histories (60 on other versions) tables and model agree, and at the end all promises hold."""
    parts = {
        "postgres": lambda: Parts(dispatch_of=by_postgres),
        "many streams": lambda: Parts(dispatch_of=as_many_streams),
        "redis": lambda: by_redis(request.getfixturevalue("redis_url")),
    }
    with Store(database_url, parts[dispatch]()) as opened:

        class Histories(StoreMachine):
            store = opened

        run_state_machine_as_test(Histories, settings=HISTORIES)
