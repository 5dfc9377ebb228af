"""The seams of alerts: where facts come from and standing is kept, and the channels that messages leave by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from perdure.domain.alerts import Alert, Facts, Message, Silence, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A message that is to be sent now, for the `tries`th time."""

    channel: str
    message: Message
    tries: int


class Alerts(Protocol):
    """How things and alerts stand. Raises DatabaseUnavailable."""

    async def facts(self) -> Facts:
        """What is judged, counted up to now."""
        ...

    async def alerts(self) -> Sequence[Alert]:
        """All alerts that are pending, firing or lately resolved."""
        ...

    async def silences(self) -> Sequence[Silence]:
        """Silences in force."""
        ...

    async def keep(self, step: Step, messages: Mapping[str, Sequence[Message]]) -> None:
        """Write a look down, in one transaction: alerts, the trail, and messages by channel; a message is kept once."""
        ...

    async def silence(self, rule: str, target: str, *, author: str, reason: str, lasts: timedelta) -> Silence:
        """Say nothing of some alerts for a while."""
        ...

    async def unsilence(self, silence_id: UUID, *, author: str) -> Silence | None:
        """End a silence that is in force; None when there is none."""
        ...


class Outbox(Protocol):
    """Messages on their way."""

    async def due(self, limit: int) -> Sequence[Outgoing]:
        """Messages to be sent now; nobody else is given them for a minute."""
        ...

    async def delivered(self, outgoing: Outgoing) -> None:
        """A message got through."""
        ...

    async def refused(self, outgoing: Outgoing, error: str, *, again: timedelta) -> None:
        """A message did not get through; it is due again after a while."""
        ...


class Channel(Protocol):
    """A way to people or programs."""

    async def send(self, message: Message) -> None:
        """Hand a message over; the receiver has it when this returns. Raises NotifierFailed, which names no secret."""
        ...
