"""`perdure serve`: the dashboard and the HTTP API."""

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Group, Parameter

from perdure.surfaces.cli.extras import needing
from perdure.surfaces.cli.options import AS_SET, Connection
from perdure.surfaces.cli.output import tell
from perdure.surfaces.cli.session import located, settings_of

WEB = Group("Web", sort_key=10)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Reach:
    """Where it listens, and who may come in."""

    host: Annotated[str | None, Parameter(group=WEB)] = None
    "Address to listen on; without authentication only one of this machine."
    port: Annotated[int | None, Parameter(group=WEB)] = None
    "Port to listen on; 0 takes a free one."
    auth: Annotated[str | None, Parameter(group=WEB)] = None
    "How callers show who they are: none, token, basic, proxy-header or callback."
    read_only: Annotated[bool, Parameter(group=WEB, negative="", show_default=False)] = False
    "Let nobody change anything."
    root_path: Annotated[str, Parameter(group=WEB)] = ""
    "Path under which a proxy shows it, such as `/admin/ops`."
    insecure_no_auth: Annotated[bool, Parameter(group=WEB, negative="", show_default=False)] = False
    "Let everybody in who reaches the address, with all permissions."


AS_CONFIGURED = Reach()


async def serve(
    *,
    reach: Reach = AS_CONFIGURED,
    connection: Connection = AS_SET,
    verbose: Annotated[
        tuple[bool, ...], Parameter(name=["--verbose", "-v"], negative="", show_default=False)
    ] = (),
) -> None:
    """Serve the dashboard, the HTTP API, metrics and probes until Ctrl-C or SIGTERM.

    Parameters
    ----------
    verbose
        Log more; twice: a traceback with an error.
    """
    with needing("web"):
        from perdure.surfaces.web.serve import serve as serve_web

    settings = settings_of(
        connection,
        web_host=reach.host,
        web_port=reach.port,
        web_auth=reach.auth,
        web_read_only=reach.read_only or None,
        log_level="debug" if verbose else None,
    )
    with located(settings) as found:
        await serve_web(
            found,
            root_path=reach.root_path,
            anywhere=reach.insecure_no_auth,
            started=lambda address: tell(f"perdure serve: {address} (Ctrl-C ends it)"),
        )
