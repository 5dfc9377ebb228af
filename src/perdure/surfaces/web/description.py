"""The description of the API (OpenAPI 3.1), made from the types."""

from importlib.metadata import version

from litestar import Router
from litestar._openapi.schema_generation import SchemaCreator
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, Schema, SecurityScheme, Tag
from litestar.openapi.spec.enums import OpenAPIType
from litestar.plugins import OpenAPISchemaPlugin
from litestar.typing import FieldDefinition
from msgspec import Raw

from perdure.domain.access import Permission
from perdure.surfaces.web.routing import PERMISSION

DESCRIPTION = """
Everything that the dashboard and the command line can do. Errors are problem details (RFC 9457). Lists are asked on with
`cursor`. A POST with an `Idempotency-Key` can be repeated: it is answered as the first time, for a day. Durations are written
as `90s`, `10m`, `2h`; those in answers are ISO 8601.
"""
TAGS = {
    "jobs": "The work: enqueue it, look at it, cancel and retry it.",
    "work": "For worker loops in any language: settle the attempts that were acquired.",
    "workers": "Who runs jobs.",
    "queues": "Where jobs wait.",
    "dead letters": "What gave up.",
    "flows": "Jobs that depend on each other.",
    "audit": "What was done by whom.",
    "system": "The state of the whole.",
}


class AnyJson(OpenAPISchemaPlugin):
    """JSON of the user, passed on as it is."""

    @staticmethod
    def is_plugin_supported_type(value: object) -> bool:
        return value is Raw

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: SchemaCreator) -> Schema:
        return Schema(
            description="Any JSON",
            any_of=[
                Schema(type=OpenAPIType(name)) for name in ("object", "array", "string", "number", "boolean")
            ],
        )


def description() -> OpenAPIConfig:
    """What `/api/v1/openapi.json` says of itself."""
    return OpenAPIConfig(
        title="Perdure",
        version=version("perdure"),
        description=DESCRIPTION.strip(),
        openapi_router=Router(
            "/openapi", route_handlers=[], include_in_schema=False, opt={PERMISSION: Permission.VIEW}
        ),
        render_plugins=[JsonRenderPlugin(path="/openapi.json")],
        tags=[Tag(name=name, description=text) for name, text in TAGS.items()],
        use_handler_docstrings=False,
        components=Components(
            security_schemes={
                "token": SecurityScheme(type="http", scheme="bearer"),
                "basic": SecurityScheme(type="http", scheme="basic"),
            }
        ),
    )
