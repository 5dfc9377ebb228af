"""Where everything lies inside the data folder of the embedded servers."""

import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Layout:
    """The names inside one data folder; nothing outside these names is ever touched."""

    root: Path

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def run_link(self) -> Path:
        """A symbolic link to the short folder that holds the sockets."""
        return self.root / "run"

    @property
    def postgres(self) -> Path:
        return self.root / "postgres"

    @property
    def postgres_log(self) -> Path:
        return self.root / "postgres.log"

    @property
    def redis(self) -> Path:
        return self.root / "redis"

    @property
    def redis_log(self) -> Path:
        return self.root / "redis.log"

    @property
    def owner_log(self) -> Path:
        return self.root / "owner.log"

    @property
    def application(self) -> Path:
        """The name of the application that `perdure dev` runs."""
        return self.root / "application"

    @property
    def binaries(self) -> Path:
        """A copy of the server programs, made only when an unprivileged user cannot reach the originals."""
        return self.root / "binaries"

    def prepare(self) -> None:
        """Make the data folder; its parents keep their rights."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def erase(self) -> None:
        """Remove the servers' data and logs. The caller holds the lock."""
        for folder in (self.postgres, unfinished(self.postgres), self.redis):
            shutil.rmtree(folder, ignore_errors=True)
        for log in (self.postgres_log, self.redis_log, self.owner_log):
            log.unlink(missing_ok=True)


def unfinished(cluster: Path) -> Path:
    """Where a cluster is made before it gets its name, so that a crash leaves no half cluster."""
    return cluster.with_name(f"{cluster.name}.new")
