"""The web face: HTTP API, dashboard, metrics and probes as one ASGI application, to be served or mounted."""

from perdure.domain.access import Identity, Permission, Role
from perdure.surfaces.web.application import web_application
from perdure.surfaces.web.authentication import Arrival

__all__ = ["Arrival", "Identity", "Permission", "Role", "web_application"]
