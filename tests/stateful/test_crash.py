"""PostgreSQL dies with claims that were not yet on disk: they are as if they had never been, and so are their tokens."""

import pytest

from perdure.domain.job import JobState
from perdure.domain.lease import Lease
from perdure.domain.settlement import Completed, settle
from perdure.ports import Claimer, Scope
from perdure.stores.postgres.dispatch import PostgresDispatch, claimer_database
from perdure.stores.postgres.jobs import PostgresJobs
from tests.support.database import new_job
from tests.support.functions import function_of
from tests.support.servers import PostgresServer
from tests.support.store import Store

SCOPE = Scope(queues=("default",), kinds=("app.work",))
RANDOM = "encode(substr(tokens, 16 * row_number() OVER ()::integer - 15, 16), 'hex')::uuid AS token"
COUNTED = "md5(t.job_id::text || (t.attempt + 1))::uuid AS token"
"""A counter: the number of the attempt. After a crash that loses the claim it is issued a second time."""

CRASHES = 10


def issue(store: Store, token: str) -> None:
    """Have claims issue their tokens so from now on."""
    function = function_of("lease_held")
    assert function.count(RANDOM) == 1
    store.execute(function.replace(RANDOM, token))


def claim_of(store: Store, url: str) -> Lease:
    """Claim the one job as a worker does: on a connection whose commits do not wait for the disk."""
    database = claimer_database(url, application_name="claims")
    dispatch = PostgresDispatch(database)
    (lease,) = store.run(dispatch.claim(Claimer(worker_id=store.new_worker(), process=0), SCOPE, limit=1))
    store.run(database.close())
    return lease


def lost_claim(server: PostgresServer) -> Lease:
    """A lease that the database has forgotten in a crash; a claim that reached the disk after all is given back."""
    for _ in range(CRASHES):
        with Store(server.url) as store:
            lease = claim_of(store, server.url)
            server.kill()
        server.start()
        with Store(server.url) as store:
            if store.live()[JobState.AVAILABLE] == 1:
                return lease
            store.execute("DELETE FROM perdure.leases")
            store.execute("DELETE FROM perdure.jobs")
            store.run(store.jobs.enqueue([new_job()]))
    raise AssertionError(f"{CRASHES} crashes lost no claim")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("token", [RANDOM, COUNTED], ids=["random token", "counter"])
def test_a_token_issued_before_a_crash_is_never_accepted_after_it(
    private_postgres: PostgresServer, token: str
) -> None:
    """With a counter in the place of the random token the first holder's late result is taken for the second's."""
    with Store(private_postgres.url) as store:
        store.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
        store.execute("SELECT pg_reload_conf()")
        issue(store, token)
        store.run(store.jobs.enqueue([new_job()]))
    first = lost_claim(private_postgres)
    with Store(private_postgres.url) as store:
        jobs = PostgresJobs(store.database)
        second = claim_of(store, private_postgres.url)
        assert second.job_id == first.job_id
        accepted = store.run(jobs.settle([settle(first, Completed())])).accepted
        assert (accepted == frozenset()) == (token == RANDOM)
        if token == RANDOM:
            assert store.run(jobs.settle([settle(second, Completed())])).accepted == {second.token}
            report = store.judge()
            assert report.ok, report.words()
