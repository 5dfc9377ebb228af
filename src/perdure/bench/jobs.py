"""The jobs of the measurements. Importing this file is all that their worker knows of them."""

from time import monotonic_ns

from perdure import job

QUEUE = "bench"
WARM = "bench_warm"

bench_job = job(queue=QUEUE)


@bench_job
async def noop(n: int) -> None:
    """Do nothing, so that only the system is measured."""


@bench_job
async def arrive(sent_ns: int) -> float:
    """Tell the milliseconds since `sent_ns` of the monotonic clock, which all processes of a machine share."""
    return (monotonic_ns() - sent_ns) / 1_000_000
