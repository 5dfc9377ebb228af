"""The files that pages need: styles, scripts and icons, served under names that change with what is in them."""

import hashlib
import mimetypes
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from litestar import Response, get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath

from perdure.surfaces.web.routing import PUBLIC

FOLDER = "static"
FOR_EVER = "public, max-age=31536000, immutable"
SERVED = (
    "perdure.css",
    "perdure.js",
    "early.js",
    "icon.svg",
    "vendor/htmx-4.0.1.min.js",
    "vendor/htmx-sse-4.0.1.min.js",
    "vendor/uplot-1.6.32.min.js",
    "vendor/uplot-1.6.32.min.css",
)


@cache
def _contents() -> Mapping[str, tuple[str, bytes]]:
    """Of each file the name that it is served under, and what is in it."""
    found = {}
    for name in SERVED:
        body = files("perdure.surfaces.web").joinpath(FOLDER, *name.split("/")).read_bytes()
        digest = hashlib.sha256(body).hexdigest()[:12]
        stem, _, suffix = name.rpartition("/")[2].rpartition(".")
        found[name] = (f"{stem}.{digest}.{suffix}", body)
    return found


@cache
def asset_names() -> Mapping[str, str]:
    """The paths of the files by their plain names."""
    return {name: f"/static/{served}" for name, (served, _) in _contents().items()}


@cache
def _by_served_name() -> Mapping[str, bytes]:
    return dict(_contents().values())


@get("/static/{name:str}", opt=PUBLIC, include_in_schema=False)
async def asset(name: FromPath[str]) -> Response[bytes]:
    """One file; it never changes under its name."""
    body = _by_served_name().get(name)
    if body is None:
        raise NotFoundException(detail=f"there is no file {name}")
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return Response(body, media_type=kind, headers={"cache-control": FOR_EVER})
