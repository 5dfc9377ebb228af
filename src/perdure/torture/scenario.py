"""What a scenario is: a fault, how it is produced, what must hold, and how soon work goes on."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from perdure.torture.place import Place

Play = Callable[[Place], Awaitable[None]]

WITHIN_S = 30.0
"""Much longer than it takes on a machine at rest: a new process may have to start first, and this one may be busy."""

RATE = 60.0
"""Jobs a second of the load under which most faults strike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One fault, told for people; S1 to S7 and L1 hold after each of them, so `holds` says what else does.

    `numbers` are the rows of the table of faults that it proves. When the fault has ended, what was enqueued before must
    have ended `within_s`. `root`: only root can produce it. `long`: it takes minutes, so a short run leaves it out.
    `flood`: more of everything at full size, played only when asked for; it leaves jobs that wait, so L1 is not asked.
    `postgres` are settings of the server.
    """

    name: str
    numbers: tuple[int, ...]
    produced: str
    holds: str
    within_s: float = WITHIN_S
    root: bool = False
    long: bool = False
    flood: bool = False
    hosts: int = 2
    rate: float = RATE
    postgres: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """A scenario and what plays it; one that `mixes` strikes under a load that goes on, so that others can too.

    `check` looks for what must hold when this fault alone has struck.
    """

    scenario: Scenario
    play: Play
    mixes: bool
    check: Play | None = None


SCENARIOS: dict[str, Entry] = {}
"""All of them, by name, in the order of their definition."""


def fault(scenario: Scenario, check: Play | None = None) -> Callable[[Play], Play]:
    """Define a fault that strikes under the usual load and has ended when the function returns."""

    def defined(strike: Play) -> Play:
        SCENARIOS[scenario.name] = Entry(scenario, strike, mixes=True, check=check)
        return strike

    return defined


def story(scenario: Scenario) -> Callable[[Play], Play]:
    """Define a scenario that needs hosts and jobs of its own."""

    def defined(play: Play) -> Play:
        SCENARIOS[scenario.name] = Entry(scenario, play, mixes=False)
        return play

    return defined
