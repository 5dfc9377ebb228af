"""The seams: what the services need from the technologies, each a small protocol with its law."""

from perdure.ports.clock import Clock
from perdure.ports.control import By, Control
from perdure.ports.dispatch import Claimer, Dispatch, Scope
from perdure.ports.history import Finding, Findings, History
from perdure.ports.insights import Insights
from perdure.ports.jobs import Jobs, LeaseOf, Leases, Place, Settled
from perdure.ports.keeping import Keeping, PartitionChanges
from perdure.ports.lineage import Lineage
from perdure.ports.settling import Settler
from perdure.ports.workers import Workers

__all__ = [
    "By",
    "Claimer",
    "Clock",
    "Control",
    "Dispatch",
    "Finding",
    "Findings",
    "History",
    "Insights",
    "Jobs",
    "Keeping",
    "LeaseOf",
    "Leases",
    "Lineage",
    "PartitionChanges",
    "Place",
    "Scope",
    "Settled",
    "Settler",
    "Workers",
]
