"""How the servers of one data folder are made; the first client's options count for all that join."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from perdure.runtime.embedded.run_as import RunAs


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """Everything about the servers that has a default.

    `throwaway` skips the flush of a new cluster to disk; running with fsync off is a PostgreSQL setting like any
    other. `run_as` None means: found out by trying.
    """

    grace_s: float = 1.0
    throwaway: bool = False
    postgres_bin: Path | None = None
    postgres_settings: Mapping[str, str] = field(default_factory=dict)
    redis_server: Path | None = None
    redis_settings: Mapping[str, str] = field(default_factory=dict)
    run_as: RunAs | None = None

    def as_flags(self) -> list[str]:
        """The command line flags from which `from_flags` makes the same options."""
        flags = ["--grace", str(self.grace_s)]
        flags += ["--throwaway"] if self.throwaway else []
        flags += ["--postgres-bin", str(self.postgres_bin)] if self.postgres_bin else []
        flags += ["--redis-server", str(self.redis_server)] if self.redis_server else []
        flags += ["--run-as", self.run_as.value] if self.run_as else []
        for name, value in self.postgres_settings.items():
            flags += ["--postgres-setting", f"{name}={value}"]
        for name, value in self.redis_settings.items():
            flags += ["--redis-setting", f"{name}={value}"]
        return flags

    @classmethod
    def from_flags(cls, given: argparse.Namespace) -> "ServerOptions":
        return cls(
            grace_s=given.grace,
            throwaway=given.throwaway,
            postgres_bin=given.postgres_bin,
            postgres_settings=dict(given.postgres_setting),
            redis_server=given.redis_server,
            redis_settings=dict(given.redis_setting),
            run_as=given.run_as,
        )


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--grace", type=float, default=1.0, metavar="SECONDS", help="wait after the last client"
    )
    parser.add_argument("--throwaway", action="store_true", help="do not flush a new cluster to disk")
    parser.add_argument(
        "--postgres-bin", type=Path, metavar="FOLDER", help="folder with initdb, postgres and createdb"
    )
    parser.add_argument(
        "--redis-server", type=Path, metavar="PROGRAM", help="a redis-server or valkey-server"
    )
    parser.add_argument("--run-as", type=RunAs, choices=list(RunAs), help="as whom PostgreSQL runs")
    for server in ("postgres", "redis"):
        parser.add_argument(
            f"--{server}-setting",
            action="append",
            default=[],
            type=_pair,
            metavar="NAME=VALUE",
            help="may repeat",
        )


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value
