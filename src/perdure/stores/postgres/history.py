"""The history, read whole to see whether the promises hold."""

from collections.abc import Iterable, Mapping
from typing import Any

from perdure.domain.job import LIVE, JobState
from perdure.ports import Finding, Findings
from perdure.stores.postgres.connections import SnapshotDatabase
from perdure.stores.postgres.statements import DEFAULT_SCHEMA, statements

DEFAULT_TIMEOUT_S = 600.0


class PostgresHistory:
    """The port `History` on PostgreSQL: set-based statements on one repeatable-read, read-only snapshot."""

    def __init__(
        self,
        database: SnapshotDatabase,
        *,
        schema: str = DEFAULT_SCHEMA,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        self._database = database
        self._sql = statements("check", schema)
        self._timeout_s = timeout_s

    async def findings(self, *, crash_limit: int, interruption_limit: int, drained: bool = False) -> Findings:
        asked = ((self._sql["left_over"], ()),) if drained else ()
        _, sizes, live, *found = await self._database.read_all(
            (self._sql["room_to_sort"], ()),
            (self._sql["sizes"], ()),
            (self._sql["live"], ()),
            (self._sql["places"], ()),
            (self._sql["orphans"], ()),
            (self._sql["leases_in_order"], ()),
            (self._sql["limits"], (crash_limit, interruption_limit)),
            (self._sql["edges"], ()),
            (self._sql["slots"], ()),
            (self._sql["keys"], ()),
            *asked,
            timeout=self._timeout_s,
        )
        return Findings(
            taken_at=sizes[0]["taken_at"],
            looked=_looked(sizes[0]) | ({"L1": sizes[0]["live"]} if drained else {}),
            found=[_finding(row) for rows in found for row in rows],
            live=_by_state(live),
        )

    async def live(self) -> Mapping[JobState, int]:
        (rows,) = await self._database.read_all((self._sql["live"], ()), timeout=self._timeout_s)
        return _by_state(rows)


def _finding(row: Any) -> Finding:
    return Finding(
        promise=row["promise"],
        clause=row["clause"],
        violations=row["violations"],
        examples=tuple(row["examples"]),
    )


def _looked(sizes: Any) -> dict[str, int]:
    leases = sizes["leased"] + sizes["running"]
    everything = ("bodies", "live", "executions", "letters", "edges", "keys")
    return {
        "S1": sum(sizes[name] for name in everything),
        "S2": leases,
        "S3": leases,
        "S4": leases + sizes["live"],
        "S5": sizes["edges"],
        "S6": sizes["slotted"] + sizes["slots"],
        "S7": sizes["keyed"] + sizes["keys"],
    }


def _by_state(rows: Iterable[Any]) -> dict[JobState, int]:
    counted = {row["state"]: row["jobs"] for row in rows}
    return {state: counted.get(state.value, 0) for state in JobState if state in LIVE}
