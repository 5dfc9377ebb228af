"""The duties of the elected leader: stage, rescue, upkeep. Any supervisor can lead."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from datetime import timedelta
from uuid import UUID

import structlog

from perdure.domain.errors import DatabaseUnavailable, Locked, Unavailable
from perdure.domain.liveness import Sight
from perdure.runtime.alerting import Alerting
from perdure.runtime.loops import every
from perdure.runtime.process_wiring import SupervisorStores
from perdure.runtime.remembering_process import RememberingProcess
from perdure.runtime.restoring import StalledRestores
from perdure.runtime.saving import AutomaticSnapshots
from perdure.runtime.settings import Settings
from perdure.runtime.training_process import TrainingProcess
from perdure.services.champion import Champion
from perdure.services.evacuate import FollowUp
from perdure.services.rescue import Rescue, Rules
from perdure.services.stage import Stage
from perdure.services.upkeep import Upkeep, UpkeepReport
from perdure.services.watch import Care, Watch
from perdure.stores.postgres.leadership import PostgresLeadership
from perdure.stores.postgres.past import PostgresPast

STAGE_S = 0.25
RESCUE_S = 1.0
EVACUATION_S = 1.0
CANCEL_REQUESTS_S = 1.0
CANCEL_REQUESTS_AT_ONCE = 500
MARK_S = 1.0
SNAPSHOT_LOOK_S = 10.0
RESTORE_LOOK_S = 10.0
MEMORY_LOOK_S = 5.0
MODEL_LOOK_S = 30.0
ROLL_UP_S = 20.0
ADVICE_LOOK_S = 20.0
LEVELS_S = 10.0
UPKEEP_S = 60.0
UPKEEP_LOOK_S = 1.0
MESSAGES_S = 2.0
MAY_BE_LATE = frozenset({"advice", "alerts"})
REST = 19.0
"""They take a twentieth of the time, where a round takes seconds because no dead row can be removed; more of it where a round takes more
than nine, for no rest is longer than `LONGEST_REST_S`."""
UNDONE = frozenset({"missing", "kept", "postponed"})

log = structlog.get_logger("perdure.duties")


class Duties:
    """Runs each duty at its pace while this supervisor leads.

    A duty is harmless when two run it: each of its statements checks by itself what it changes. The election
    only saves work.
    """

    def __init__(
        self,
        settings: Settings,
        stores: SupervisorStores,
        *,
        holder: UUID,
        sight: Callable[[], Sight],
    ) -> None:
        self._leadership = PostgresLeadership(
            stores.elections,
            holder=holder,
            ttl=timedelta(seconds=settings.leader_ttl_s),
            schema=settings.schema,
        )
        self._stage = Stage(stores.jobs, stores.dispatch)
        self._rescue = Rescue(
            stores.jobs,
            stores.leases,
            stores.workers,
            stores.dispatch,
            rules=Rules(
                suspect_after=timedelta(seconds=settings.suspect_after_s),
                dead_after=timedelta(seconds=settings.dead_after_s),
                crash_limit=settings.crash_limit,
                interruption_limit=settings.interruption_limit,
                interval=timedelta(seconds=settings.heartbeat_interval_s),
            ),
            sight=sight,
        )
        self._evacuation = FollowUp(
            stores.evacuations,
            stores.jobs,
            stores.dispatch,
            interruption_limit=settings.interruption_limit,
        )
        self._control = stores.control
        self._moments = PostgresPast(stores.duties, schema=settings.schema)
        self._snapshots = AutomaticSnapshots(settings, stores.duties)
        self._restores = StalledRestores(settings, stores.duties)
        self._remembering = RememberingProcess(settings)
        self._retention = timedelta(days=settings.retention_days)
        self._upkeep = Upkeep(
            stores.keeping,
            ahead_days=settings.partitions_ahead_days,
            retention=timedelta(days=settings.retention_days),
        )
        self._watch = _watch_of(settings, stores)
        self._training = TrainingProcess(settings, stores.models)
        self._watch_s = settings.sample_interval_s
        self._rollups = stores.rollups
        self._follow = stores.follow
        self._levels = stores.levels
        self._alerting = Alerting(settings, stores.alerts)
        self._alert_interval_s = settings.alert_interval_s
        self._kept_up_at: float | None = None
        self._kept: Mapping[str, str] = {}
        self._renew_s = settings.leader_ttl_s / 3
        self._term: int | None = None
        self._led_last = self._away = False
        self._locked: dict[str, int] = {}
        self._turns = asyncio.Lock()

    async def run(self) -> None:
        """Stand for election and, while leading, do the duties; for ever."""
        try:
            await self._run()
        finally:
            await self._remembering.end()
            await self._training.end()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for interval, duty, name in (
                (self._renew_s, self._stand, "election"),
                (STAGE_S, self._stage_due, "stage"),
                (RESCUE_S, self._rescue_lost, "rescue"),
                (EVACUATION_S, self._evacuate, "evacuation"),
                (CANCEL_REQUESTS_S, self._carry_on_cancel_requests, "cancel requests"),
                (MARK_S, self._mark, "moments"),
                (SNAPSHOT_LOOK_S, self._save, "snapshots"),
                (RESTORE_LOOK_S, self._carry_restores_on, "restores"),
                (MEMORY_LOOK_S, self._remember, "memory"),
                (MODEL_LOOK_S, self._look_after_models, "models"),
                (UPKEEP_LOOK_S, self._keep_up, "upkeep"),
                (self._watch_s, self._look_after, "health"),
                (ROLL_UP_S, self._roll_up, "rollups"),
                (ADVICE_LOOK_S, self._follow_advice, "advice"),
                (LEVELS_S, self._count_levels, "levels"),
                (self._alert_interval_s, self._look_for_alerts, "alerts"),
                (MESSAGES_S, self._send_messages, "messages"),
                (self._alert_interval_s, self._tell_of_outage, "outage"),
            ):
                rest = REST if name in MAY_BE_LATE else 0.0
                group.create_task(every(interval, duty, name=name, asks=name == "election", rest=rest))

    async def resign(self) -> None:
        """Let another lead at once."""
        if self._term is not None:
            with suppress(Unavailable):
                await self._leadership.resign()

    async def _stand(self) -> None:
        try:
            term = await self._leadership.lead()
        except Unavailable as error:
            self._term = None
            self._away = isinstance(error, DatabaseUnavailable) and not isinstance(error, Locked)
            raise
        self._away = False
        self._led_last = term is not None
        if term is not None and self._term is None:
            log.info("leads", term=term)
        self._term = term

    async def _stage_due(self) -> None:
        if self._term is not None:
            await self._stage.run_once()

    async def _rescue_lost(self) -> None:
        if self._term is None:
            return
        report = await self._rescue.run_once()
        if report.suspected:
            log.warning("missed heartbeats; gets no new work", workers=[str(one) for one in report.suspected])
        if report.held_back:
            log.error("most of the fleet is silent; nothing is taken from it yet", workers=report.held_back)
        if report.dead or report.rescued or report.overdue:
            log.warning("rescued", dead=report.dead, jobs=report.rescued, overdue=report.overdue)
        self._tell_of_locks("rescue", report.locked)

    async def _evacuate(self) -> None:
        if self._term is None:
            return
        report = await self._evacuation.run_once()
        if report.taken:
            log.warning("took the jobs of evacuated workers that did not let go", jobs=report.taken)
        if report.finished:
            log.info("evacuated", workers=[str(worker_id) for worker_id in report.finished])
        self._tell_of_locks("evacuation", report.locked)

    def _tell_of_locks(self, duty: str, jobs: int) -> None:
        """Once for as long as it is so."""
        if jobs and jobs != self._locked.get(duty):
            log.warning("jobs must wait for a transaction that somebody holds open", duty=duty, jobs=jobs)
        self._locked[duty] = jobs

    async def _carry_on_cancel_requests(self) -> None:
        """A job that was to be cancelled and whose attempt ended in another way is cancelled where it stands now."""
        if self._term is not None:
            await self._control.carry_on_cancel_requests(limit=CANCEL_REQUESTS_AT_ONCE)

    async def _mark(self) -> None:
        """A moment is remembered that can be looked back to."""
        if self._term is not None:
            await self._moments.mark()

    async def _save(self) -> None:
        """An automatic snapshot, when one is wanted and due; never beside a restore, so that both need two connections."""
        async with self._turns:
            report = None if self._term is None else await self._snapshots.run_once()
        if report is not None:
            log.info("snapshot", id=report.created, pruned=list(report.pruned), took_s=report.took_s)

    async def _carry_restores_on(self) -> None:
        """A restore whose process has gone in the middle comes to its end all the same."""
        async with self._turns:
            done = None if self._term is None else await self._restores.run_once()
        if done is not None:
            log.warning("carried a restore on", id=str(done.id), phase=done.phase, report=done.report)

    async def _remember(self) -> None:
        """Executions are remembered by a process of their own, where there is a Qdrant."""
        await self._remembering.keep(leading=self._term is not None)

    async def _look_after_models(self) -> None:
        """Models are trained and compared by a process of their own, now and then."""
        await self._training.keep(leading=self._term is not None)

    async def _look_after(self) -> None:
        """How well the workers are, by what they told last."""
        if self._term is None:
            return
        report = await self._watch.run_once()
        self._alerting.note_risks(report.risks)
        if report.evacuated:
            log.warning("evacuates before it fails", workers=[str(one) for one in report.evacuated])

    async def _roll_up(self) -> None:
        """The minutes that are over are counted, for the charts."""
        if self._term is not None:
            await self._rollups.run_once()

    async def _follow_advice(self) -> None:
        """Time-outs and retry delays of kinds that wish it follow what their history says."""
        if self._term is not None and (done := await self._follow.run_once()) is not None:
            now = {"timeout_s": done.after.timeout_s, "retry_s": done.after.retry_s}
            log.info("follows advice", kind=done.kind, why=done.after.why, **now)

    async def _count_levels(self) -> None:
        """What lives and what came lately is counted, for pages over many jobs."""
        if self._term is not None:
            await self._levels.run_once()

    async def _look_for_alerts(self) -> None:
        if self._term is not None:
            await self._alerting.look()

    async def _send_messages(self) -> None:
        if self._term is not None:
            await self._alerting.send()

    async def _tell_of_outage(self) -> None:
        """The election, which no other duty holds up, shows whether PostgreSQL answers; who led last tells of it: nobody else can."""
        await self._alerting.tell_of_outage(away=self._away and self._led_last)

    async def _keep_up(self) -> None:
        """At once when a term begins, and then at its own pace."""
        if self._term is None:
            self._kept_up_at = None
            return
        now = asyncio.get_running_loop().time()
        if self._kept_up_at is not None and now - self._kept_up_at < UPKEEP_S:
            return
        self._kept_up_at = now
        try:
            report = await self._upkeep.run_once()
            await self._moments.thin(keep=self._retention)
        except Unavailable:
            self._kept_up_at = None
            raise
        if report.kept != self._kept:
            self._kept = report.kept
            log.info("keeps aged partitions", kept=dict(report.kept))
        _log_upkeep(report)


def _watch_of(settings: Settings, stores: SupervisorStores) -> Watch:
    return Watch(
        stores.vitals,
        stores.evacuations,
        Champion(stores.models, interval=timedelta(seconds=settings.sample_interval_s)),
        care=Care(
            lag_max=timedelta(seconds=settings.suspect_after_s),
            evacuates=settings.evacuate_unhealthy,
            shadow_share=settings.model_shadow_share,
        ),
    )


def _log_upkeep(report: UpkeepReport) -> None:
    if report.missing:
        log.warning("partitions are missing", missing=dict(report.missing))
    if report.postponed:
        log.warning("aged partitions could not be dropped yet", postponed=dict(report.postponed))
    done = {name: value for name, value in asdict(report).items() if value and name not in UNDONE}
    if done:
        log.info("kept up", **done)
