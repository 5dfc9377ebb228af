"""`perdure worker anomalies`: what is unusual in a worker."""

from perdure.services.assess import Assessment
from perdure.surfaces.cli.options import AS_SET, AS_USUAL, ONCE, Connection, Shown, Watch
from perdure.surfaces.cli.output import Listing, show_list, tell
from perdure.surfaces.cli.records import Record, record_of
from perdure.surfaces.cli.repeat import repeated
from perdure.surfaces.cli.session import opened
from perdure.surfaces.cli.tables import Column

COLUMNS = (
    Column("found_by", "FOUND BY"),
    Column("metric", "METRIC"),
    Column("value", "VALUE", right=True),
    Column("expected", "EXPECTED", right=True),
    Column("severity", "SEVERITY", right=True),
    Column("share", "SHARE", right=True),
)


async def anomalies(
    worker: str, *, watch: Watch = ONCE, connection: Connection = AS_SET, shown: Shown = AS_USUAL
) -> None:
    """List what is unusual in the newest sample of a worker, the worst first.

    `detector` is what may alarm: severity 3 about once a day by chance, 4 once in four days. `deviation` is advice: a metric
    more than two standard deviations off; of many metrics one often is.

    Parameters
    ----------
    worker
        Its id or its name.
    """
    async with opened(connection) as stores:
        async for _ in repeated(watch.interval):
            view = await stores.read.worker(worker)
            found = await stores.assess.detect_anomalies(view.worker.id)
            seen = found.detected
            tell(
                f"judged by {found.samples} samples; detector: {seen.method}, {seen.rows} rows, "
                f"score {seen.score:g}, warns above {seen.warning:g}"
            )
            show_list(
                Listing(
                    schema="perdure.anomalies/1",
                    item="perdure.anomaly/1",
                    columns=COLUMNS,
                    records=_records(found),
                    key="metric",
                ),
                shown,
            )


def _records(found: Assessment) -> list[Record]:
    """The detector's finds before the advice."""
    named = (("detector", found.detected.anomalies), ("deviation", found.anomalies))
    return [{"found_by": name, **_rounded(record_of(one))} for name, part in named for one in part]


def _rounded(record: Record) -> Record:
    return {
        name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in record.items()
    }
