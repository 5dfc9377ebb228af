"""`perdure export`: files for what stands around Perdure."""

import sys
from dataclasses import replace
from typing import Annotated

from cyclopts import Parameter

from perdure.domain.errors import InvalidOption
from perdure.surfaces.cli.options import AS_SET
from perdure.surfaces.cli.session import settings_of


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
    sys.stdout.write(_prometheus_rules() if what == "prometheus-rules" else EXPORTS[what]())


def _prometheus_rules() -> str:
    """The rules with links that lead where the settings say."""
    from perdure.runtime.alerting import links_of
    from perdure.surfaces.export.prometheus import LOCAL, rules

    links = links_of(settings_of(AS_SET))
    return rules(replace(links, dashboard=links.dashboard or LOCAL.dashboard))
