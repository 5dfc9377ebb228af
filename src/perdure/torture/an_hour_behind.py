"""The jobs of a torture run, in processes whose wall clock is an hour behind."""

from perdure.torture import clocks, jobs

clocks.move(-clocks.HOUR_S)

__all__ = ["jobs"]
