"""`perdure export`: files for what stands around Perdure."""

import sys
from typing import Annotated

from cyclopts import Parameter

from perdure.domain.errors import InvalidOption


def export(what: Annotated[str, Parameter(show_default=False)]) -> None:
    """Print a file for what stands around Perdure: rules, dashboards, units, manifests.

    `prometheus-rules`, `alertmanager`, `grafana-overview`, `grafana-queues`, `grafana-workers`, `grafana-stores`, `systemd`,
    `systemd-serve`, `dockerfile`, `compose`, `kubernetes`, `keda`. Each says what of it has been run.

    Parameters
    ----------
    what
        Name of the file.
    """
    from perdure.surfaces.export import EXPORTS

    if what not in EXPORTS:
        raise InvalidOption(
            "what", f"there is nothing named {what!r}", next_step=f"one of {', '.join(EXPORTS)}"
        )
    sys.stdout.write(EXPORTS[what]())
