"""Who may do what through a face: permissions, the roles that bundle them, and who somebody is."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Permission(StrEnum):
    """One thing that somebody may be allowed to do."""

    VIEW = "view"
    ENQUEUE = "enqueue"
    WORK = "work"
    RETRY = "retry"
    CANCEL = "cancel"
    REPLAY = "replay"
    DISCARD = "discard"
    PAUSE = "pause"
    DRAIN = "drain"
    SILENCE = "silence"
    RESTORE = "restore"


class Role(StrEnum):
    """A bundle of permissions; a worker loop over HTTP needs `worker`, a person on call `operator`."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    WORKER = "worker"
    ADMIN = "admin"


ROLES: Mapping[Role, frozenset[Permission]] = {
    Role.VIEWER: frozenset({Permission.VIEW}),
    Role.OPERATOR: frozenset(Permission) - {Permission.WORK, Permission.ENQUEUE, Permission.RESTORE},
    Role.WORKER: frozenset({Permission.VIEW, Permission.ENQUEUE, Permission.WORK}),
    Role.ADMIN: frozenset(Permission),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Somebody who is known: `name` becomes the actor of what they do."""

    name: str
    permissions: frozenset[Permission]

    @classmethod
    def of(cls, name: str, role: Role) -> "Identity":
        """Somebody with the permissions of a role."""
        return cls(name=name, permissions=ROLES[role])

    def reading_only(self) -> "Identity":
        """The same person where nobody may change anything."""
        return Identity(name=self.name, permissions=self.permissions & {Permission.VIEW})
