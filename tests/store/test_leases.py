"""What a claim gives: tokens that nothing else has, and times to the microsecond of the tables."""

from uuid import RFC_4122, UUID

from perdure.stores.postgres.dispatch import TOKEN_BYTES, tokens
from tests.support.database import Store, new_job


def test_tokens_are_random_uuids_as_many_as_were_asked_for() -> None:
    made = tokens(1_000)
    found = {UUID(bytes=made[at : at + TOKEN_BYTES]) for at in range(0, len(made), TOKEN_BYTES)}
    assert len(found) == 1_000
    assert {(one.version, one.variant) for one in found} == {(4, RFC_4122)}
    assert not found & {UUID(bytes=tokens(1)) for _ in range(100)}


async def test_a_lease_has_the_token_and_the_times_of_its_row(store: Store) -> None:
    await store.jobs.enqueue([new_job() for _ in range(3)])
    leases = await store.claim(limit=3)
    rows = await store.sql("SELECT job_id, token, available_at, claimed_at FROM perdure.leases")
    given = {(one.job_id, one.token, one.available_at, one.claimed_at) for one in leases}
    assert given == {tuple(row) for row in rows}
    assert len({one.token for one in leases}) == 3
