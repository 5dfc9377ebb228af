"""Files for what stands around Perdure: Prometheus, Alertmanager, Grafana, systemd, containers, Kubernetes.

Rules come from the table that the built-in alerts use; the rest are files of this package. Each says what of it has been run.
"""

from collections.abc import Callable, Mapping
from importlib.resources import files

from perdure.surfaces.export.grafana import dashboards
from perdure.surfaces.export.prometheus import rules

FILES = {
    "alertmanager": "alertmanager.yml",
    "systemd": "perdure-worker.service",
    "systemd-serve": "perdure-serve.service",
    "dockerfile": "Dockerfile",
    "compose": "compose.yaml",
    "kubernetes": "kubernetes.yaml",
    "keda": "keda.yaml",
}


def _read(name: str) -> str:
    return files("perdure.surfaces.export").joinpath("files", name).read_text("utf-8")


def _file(name: str) -> Callable[[], str]:
    return lambda: _read(name)


EXPORTS: Mapping[str, Callable[[], str]] = {
    "prometheus-rules": rules,
    **{f"grafana-{name}": made for name, made in dashboards().items()},
    **{name: _file(file) for name, file in FILES.items()},
}
"""What can be exported, and what makes its text."""
