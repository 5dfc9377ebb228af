"""The jobs of a torture run, in processes whose wall clock is an hour ahead."""

from perdure.torture import clocks, jobs

clocks.move(clocks.HOUR_S)

__all__ = ["jobs"]
