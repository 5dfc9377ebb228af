"""What the web face works with: one application object, its services for reading, and what all requests share."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from time import monotonic

from litestar.di import NamedDependency

from perdure.domain.access import Identity
from perdure.runtime.app import Perdure
from perdure.runtime.settings import Settings
from perdure.runtime.wiring import Stores, connected
from perdure.services.enqueue import Enqueue
from perdure.surfaces.web.authentication import Authentication
from perdure.surfaces.web.live import Live, Recent
from perdure.surfaces.web.metrics import Metrics
from perdure.surfaces.web.undertakings import Undertakings

CONNECTIONS = 6
"""Pages and the API read on connections of their own, so that they can never take those of workers."""


@dataclass(slots=True)
class _Opened:
    stores: Stores
    enqueue: Enqueue
    stack: AsyncExitStack


class Web:
    """Opens the services at first use, so that a database that is away makes requests fail and not the server."""

    def __init__(self, app: Perdure, authentication: Authentication, live: Live) -> None:
        self.app = app
        self.authentication = authentication
        self.started_at = monotonic()
        self.live = live
        self.recent = Recent()
        self.undertakings = Undertakings()
        self.metrics = Metrics()
        self._opening = asyncio.Lock()
        self._opened: _Opened | None = None

    @property
    def settings(self) -> Settings:
        return self.app.settings

    @property
    def is_open(self) -> bool:
        """Whether the database has answered once."""
        return self._opened is not None

    async def stores(self) -> Stores:
        """The services, connected. Raises Unavailable."""
        return (await self._open()).stores

    async def enqueue(self) -> Enqueue:
        """The service that stores jobs; callers that come together share a commit. Raises Unavailable."""
        return (await self._open()).enqueue

    async def close(self) -> None:
        """Finish what is under way and give the connections back."""
        await self.live.close()
        await self.undertakings.close()
        if self._opened is not None:
            opened, self._opened = self._opened, None
            await opened.enqueue.close()
            await opened.stack.aclose()

    async def _open(self) -> _Opened:
        if self._opened is None:
            async with self._opening:
                if self._opened is None:
                    stack = AsyncExitStack()
                    stores = await stack.enter_async_context(
                        connected(self.settings, application_name="perdure web", most=CONNECTIONS)
                    )
                    self._opened = _Opened(stores, Enqueue(stores.jobs, stores.plain, stores.dispatch), stack)
        return self._opened


GivenWeb = NamedDependency[Web]
GivenStores = NamedDependency[Stores]
GivenIdentity = NamedDependency[Identity]
"""What a route is given when it names `web`, `stores` or `identity`."""
