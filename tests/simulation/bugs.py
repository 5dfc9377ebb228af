"""Planted bugs that simulations find."""

from perdure.domain import settlement
from perdure.domain.liveness import Contact
from perdure.runtime.supervisor import Worker
from perdure.services.completion import Completion
from perdure.services.execution import Execution
from perdure.services.rescue import Rescue
from perdure.stores.postgres.watermarks import Watermarks
from tests.simulation.planting import Bug

BUGS = [
    Bug(
        name="rescue by age alone",
        owner=Rescue,
        within="run_once",
        old="self._leases.of_dead",
        new="self._leases.aged",
    ),
    Bug(
        name="an attempt counts when it finishes",
        owner=settlement,
        within="_crashed",
        old="crashes = lease.crashes + crashed.alone",
        new="crashes = lease.crashes",
    ),
    Bug(
        name="completion is lost with the buffer",
        owner=Completion,
        within="run",
        old="self._waiting.extendleft(reversed(left))",
        new="pass",
    ),
    Bug(
        name="blindness after an outage",
        owner=Contact,
        within="sight",
        old="timedelta(0) if blind else timedelta(seconds=now - self._unbroken_since)",
        new="timedelta(hours=1)",
    ),
    Bug(
        name="the watermark is never reset",
        owner=Watermarks,
        within="floors",
        old="return dict.fromkeys(streams, FIRST_RANK)",
        new="pass",
    ),
    Bug(
        name="claims whose answer was lost are forgotten",
        owner=Execution,
        within="_claim_round",
        old="await self._give_back_lost_claims()",
        new="pass",
    ),
    Bug(
        name="the jobs of a process that ended are forgotten",
        owner=Worker,
        within="_live",
        old="await self._giving_back.run(worker_id, child, how)",
        new="pass",
    ),
]
