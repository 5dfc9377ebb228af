"""Terms of the one leader that runs the duties."""

from datetime import timedelta
from uuid import uuid4

from perdure.stores.postgres.leadership import PostgresLeadership
from tests.support.database import Store

LONG, OVER = timedelta(minutes=5), timedelta(seconds=-1)


def candidate(store: Store, ttl: timedelta) -> PostgresLeadership:
    return PostgresLeadership(store.database, holder=uuid4(), ttl=ttl, schema=store.schema)


async def test_one_leads_until_its_term_is_over_and_each_term_has_a_number_of_its_own(store: Store) -> None:
    late, other = candidate(store, OVER), candidate(store, LONG)
    assert await late.lead() == 1
    assert await other.lead() == 2
    assert await late.lead() is None, "a leader whose term is over is told so"
    assert await other.lead() == 2, "to renew a term begins no new one"


async def test_who_resigns_is_followed_at_once_and_can_end_no_term_of_another(store: Store) -> None:
    first, second = candidate(store, LONG), candidate(store, LONG)
    assert await first.lead() == 1
    assert await second.lead() is None
    await second.resign()
    assert await second.lead() is None
    await first.resign()
    assert await second.lead() == 2


async def test_a_clock_that_is_set_back_leaves_nobody_without_a_leader(store: Store) -> None:
    """The term of a leader that has died then seems to end hours from now."""
    dead, other = candidate(store, LONG), candidate(store, LONG)
    assert await dead.lead() == 1
    assert await other.lead() is None
    await store.sql("UPDATE perdure.leaders SET expires_at = expires_at + interval '1 hour'")
    assert await other.lead() == 2
