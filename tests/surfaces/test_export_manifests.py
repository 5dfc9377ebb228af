"""Exported manifests, read as YAML: what they name of Perdure is there, and what they name of each other, too."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from perdure import Perdure
from perdure.domain.alerts import RULES
from perdure.runtime.settings import Settings
from perdure.surfaces.export import EXPORTS
from perdure.surfaces.web.api.answers import Autoscale
from perdure.surfaces.web.application import web_application
from tests.support.web import routes

Document = Mapping[str, Any]


def read(what: str) -> list[Document]:
    return list(yaml.safe_load_all(EXPORTS[what]()))


def objects() -> Mapping[tuple[str, str], Document]:
    """What the manifest for Kubernetes describes, by kind and name."""
    return {(one["kind"], one["metadata"]["name"]): one for one in read("kubernetes")}


@pytest.fixture(scope="module")
def paths() -> set[str]:
    """Where the web face answers to GET."""
    face = web_application(Perdure(Settings(database_url="postgresql://127.0.0.1:1/none")))  # type: ignore[arg-type]
    return {path for method, path, _ in routes(face) if method == "GET"}


def test_the_rules_are_yaml_and_all_there() -> None:
    ((document,), names) = read("prometheus-rules"), [rule.name for rule in RULES]
    assert [rule["alert"] for rule in document["groups"][0]["rules"]] == names


def test_kubernetes_asks_ports_and_paths_that_answer(paths: set[str]) -> None:
    pod = objects()["Deployment", "perdure-web"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    probes = [container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")]
    scraped = pod["metadata"]["annotations"]
    assert {probe["path"] for probe in probes} | {scraped["prometheus.io/path"]} <= paths
    (port,) = container["ports"]
    assert {probe["port"] for probe in probes} == {port["name"]}
    assert port["containerPort"] == int(scraped["prometheus.io/port"]) == Settings().web_port


def test_objects_of_kubernetes_find_each_other() -> None:
    made = objects()
    for (kind, name), one in made.items():
        if kind == "Deployment":
            labels = one["spec"]["template"]["metadata"]["labels"]
            assert one["spec"]["selector"]["matchLabels"] == labels
        if kind == "Service":
            pod = made["Deployment", name]["spec"]["template"]
            assert one["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
            known = {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
            assert {port["targetPort"] for port in one["spec"]["ports"]} <= known
    assert {kind for kind, _ in made} == {"Job", "Deployment", "Service"}


def test_keda_asks_an_address_that_answers_and_scales_what_is_there(paths: set[str]) -> None:
    made = {one["kind"]: one for one in read("keda")}
    spec = made["ScaledObject"]["spec"]
    (trigger,) = spec["triggers"]
    address = urlsplit(trigger["metadata"]["url"])
    assert ("Service", address.hostname) in objects()
    assert address.path in paths
    assert parse_qs(address.query) == {"queue": ["default"]}
    assert trigger["metadata"]["valueLocation"] in Autoscale.__dataclass_fields__
    assert trigger["authenticationRef"]["name"] == made["TriggerAuthentication"]["metadata"]["name"]
    assert ("Deployment", spec["scaleTargetRef"]["name"]) in objects()


def test_compose_waits_for_services_that_are_there() -> None:
    (document,) = read("compose")
    services = document["services"]
    for one in services.values():
        for name, wish in one.get("depends_on", {}).items():
            assert ("healthcheck" in services[name]) == (wish["condition"] == "service_healthy")


@pytest.mark.parametrize("what", ["compose", "kubernetes"])
def test_settings_in_manifests_are_settings(what: str) -> None:
    named = re.findall(r"PERDURE_([A-Z_]+)", EXPORTS[what]())
    assert named
    assert {name.lower() for name in named} <= Settings.model_fields.keys()


def test_workers_get_the_time_to_drain() -> None:
    drain = Settings().drain_timeout_s
    worker = objects()["Deployment", "perdure-worker"]["spec"]["template"]["spec"]
    assert worker["terminationGracePeriodSeconds"] > drain
    assert float(read("compose")[0]["services"]["worker"]["stop_grace_period"].rstrip("s")) > drain
