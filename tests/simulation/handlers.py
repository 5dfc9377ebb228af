"""The one kind of job of the simulations: its handler does what the plan of its job says for this start."""

from typing import TYPE_CHECKING

from perdure import job
from perdure.domain.context import Context
from perdure.domain.retry import Fixed

if TYPE_CHECKING:
    from tests.simulation.world import World

CURRENT: "list[World]" = []
"""The world that is simulated now, if any."""


@job(name="sim.work", retry=Fixed("1s", jitter="full"))
async def work(n: int) -> int:
    """Does what the plan says."""
    await CURRENT[0].workload.perform(n)
    return n


@job(name="sim.context", retry=Fixed("1s", jitter="full"))
async def work_with_context(ctx: Context, n: int) -> int:
    """The same, with a context in its hands."""
    await CURRENT[0].workload.perform(n)
    return n


KINDS = {kind.name: kind for kind in (work, work_with_context)}
