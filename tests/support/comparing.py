"""Whether the tables of a store say what the model says."""

from collections.abc import Mapping
from typing import Any

from perdure.domain.job import LIVE, JobState
from tests.support.model import Model
from tests.support.store import Present


def compare(present: Present, model: Model) -> None:
    """Assert that the tables and the model say the same."""
    places = present.places or []
    jobs = model.jobs
    assert len(places) == len({place.job_id for place in places}), "a job stands in two places"
    same(
        "places",
        {p.job_id: (p.state.value, p.run) for p in places},
        {i: (j.state.value, j.run) for i, j in jobs.items()},
    )
    same(
        "counts",
        {p.job_id: (p.attempt, p.crashes, p.interruptions) for p in places if p.state in LIVE},
        {
            i: (j.failures + (j.state is JobState.RUNNING), j.crashes, j.interruptions)
            for i, j in jobs.items()
            if j.state in LIVE
        },
    )
    same("priorities", dict(present.bodies or []), {i: j.priority for i, j in jobs.items()})
    same(
        "leases",
        {i: (token, slot) for i, token, slot in present.leases or []},
        {i: (j.token, j.slot) for i, j in jobs.items() if j.state is JobState.RUNNING},
    )
    same("parked", dict.fromkeys(present.parked or []), {i: None for i, j in jobs.items() if j.parked})
    same(
        "letters",
        {i: run for i, run, *_ in present.letters or []},
        {i: j.run for i, j in jobs.items() if j.letter},
    )
    # One that has run out keeps nobody out; its row is left to whoever takes it over.
    held = {key: holder for key, holder in model.keys.items() if holder not in model.run_out}
    same("keys", dict(present.keys or []), held)
    same(
        "edges",
        {(child, parent): state for child, parent, state in present.edges or []},
        {edge: state for edge, (_, state) in model.edges.items()},
    )
    same(
        "blocked",
        dict(present.blocked or []),
        {i: model.waiting_for(i) for i, j in jobs.items() if j.state is JobState.PENDING},
    )


def same(what: str, said: Mapping[Any, Any], meant: Mapping[Any, Any]) -> None:
    keys = [key for key in {**said, **meant} if said.get(key, ...) != meant.get(key, ...)]
    assert not keys, f"{what}: " + "; ".join(
        f"{key} is {said.get(key)}, should be {meant.get(key)}" for key in keys
    )
