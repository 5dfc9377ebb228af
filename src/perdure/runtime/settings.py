"""The settings: one frozen class, read once from defaults, file, environment and flags, in this order."""

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from perdure.domain.errors import InvalidSettings
from perdure.runtime.alert_settings import AlertSettings
from perdure.runtime.encryption_settings import EncryptionSettings
from perdure.runtime.health_settings import HealthSettings
from perdure.runtime.memory_settings import MemorySettings
from perdure.runtime.model_settings import ModelSettings
from perdure.runtime.settings_refusals import refusal, with_source
from perdure.runtime.settings_sources import PREFIX, layers, misspelt_variables
from perdure.runtime.telemetry_settings import TelemetrySettings
from perdure.runtime.urls import MASK, masked_url, server_fault
from perdure.runtime.web_settings import WebSettings

SHORTEST_SILENCE_IN_BEATS = 3
SHORTEST_SILENCE_IN_BEATS_OF_THE_SPECIFICATION = 2
CONNECTIONS_OF_A_SUPERVISOR = 7  # three, and four for what it does while it leads
CONNECTIONS_OF_THE_ISOLATED = 2
CONNECTIONS_OF_A_WORKER = CONNECTIONS_OF_A_SUPERVISOR + CONNECTIONS_OF_THE_ISOLATED
CONNECTIONS_OF_A_PROCESS = 3
PRESETS: Mapping[str, Mapping[str, object]] = {
    "default": {},
    "specification": {"heartbeat_interval_s": 30.0, "suspect_after_s": 45.0, "dead_after_s": 60.0},
}
POSTGRESQL_SCHEMES = ("postgresql", "postgres")
REDIS_SCHEMES = ("redis", "rediss", "unix")

Names = Annotated[tuple[str, ...], NoDecode]

# Pydantic's own `schema` has been deprecated for years; the word belongs to PostgreSQL here.
warnings.filterwarnings("ignore", message='Field name "schema"', category=UserWarning)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the value of a setting comes from; `value` is fit to be shown."""

    value: str
    source: str


class Settings(
    MemorySettings,
    WebSettings,
    HealthSettings,
    ModelSettings,
    AlertSettings,
    EncryptionSettings,
    TelemetrySettings,
):
    """Everything that can be set. Built directly it reads nothing; `load` reads file and environment."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True, hide_input_in_errors=True
    )

    database_url: SecretStr = Field(
        default=SecretStr(""),
        description="PostgreSQL, as `postgresql://user:password@host:port/name`. Empty: none; programs and "
        "commands then look for the embedded server of `data_dir`.",
    )
    redis_url: SecretStr = Field(
        default=SecretStr(""),
        description="Redis for faster dispatch, as `redis://host:port/0`. Empty: PostgreSQL dispatches alone.",
    )
    schema: str = Field(  # type: ignore[assignment] # hides the deprecated BaseModel.schema
        default="perdure",
        description="Schema of the database that holds all tables.",
        pattern=r"^[a-z_][a-z0-9_]*$",
        max_length=63 - len("_doorbell"),  # names of channels begin with it
    )
    data_dir: Path = Field(
        default=Path(".perdure"),
        description="Folder of the embedded servers; in a file, relative to that file.",
    )
    app: str = Field(
        default="",
        description="Application of `perdure dev`, `worker run` and `job enqueue` when they are given none: `file.py` "
        "or `module`.",
    )
    snapshots: str = Field(default="", description="Where snapshots are kept. Empty: in `data_dir`.")
    queues: Names = Field(
        default=("default",), description="Queues that a worker serves.", min_length=1, max_length=1000
    )
    labels: Names = Field(
        default=(), description="Labels that a worker has; a job may ask for some.", max_length=100
    )
    concurrency: int = Field(
        default=100, description="Async jobs that one process runs at a time.", ge=1, le=10_000
    )
    thread_concurrency: int = Field(
        default=10,
        description="Blocking jobs that one process runs at a time, each in a thread.",
        ge=1,
        le=1_000,
    )
    cpu_processes: int = Field(
        default_factory=lambda: os.cpu_count() or 1,
        description="CPU-bound jobs that one process runs at a time, each in a process of its own. "
        "Default: the number of cores.",
        ge=1,
        le=1_024,
    )
    processes: int = Field(default=1, description="Child processes of a worker.", ge=1, le=128)
    max_connections: int = Field(
        default=20,
        description="Most connections to PostgreSQL that a worker with all its processes opens; it needs "
        f"{CONNECTIONS_OF_A_WORKER} and {CONNECTIONS_OF_A_PROCESS} for each process.",
        ge=CONNECTIONS_OF_A_WORKER + CONNECTIONS_OF_A_PROCESS,
        le=1_000,
    )
    heartbeat_interval_s: float = Field(
        default=2.0, description="Time between two heartbeats of a worker.", ge=0.05, le=300
    )
    suspect_after_s: float = Field(
        default=6.0, description="Silence after which a worker is suspected.", ge=0.1, le=3_600
    )
    dead_after_s: float = Field(
        default=15.0,
        description="Silence after which a worker is declared dead and its jobs are taken over; at least "
        f"{SHORTEST_SILENCE_IN_BEATS} heartbeats.",
        ge=0.15,
        le=3_600,
    )
    start_timeout_s: float = Field(
        default=120.0, ge=1, le=86_400, description="Time for a process to import the application."
    )
    leader_ttl_s: float = Field(
        default=6.0,
        description="Length of a term of the leader; another takes over after it.",
        ge=0.5,
        le=300,
    )
    drain_timeout_s: float = Field(
        default=30.0,
        description="Time that running jobs have to finish when a worker stops.",
        ge=0,
        le=86_400,
    )
    poll_interval_s: float = Field(
        default=0.25,
        description="Time between two looks for work when no notification comes.",
        ge=0.01,
        le=60,
    )
    unsettled_max: int = Field(
        default=1_000,
        description="A process claims nothing while so many of its results are not stored yet; a crash can repeat them.",
        ge=1,
        le=100_000,
    )
    prefetch_max: int = Field(
        default=500, description="Most jobs that a process claims ahead of starting them.", ge=1, le=10_000
    )
    prefetch_ms: int = Field(
        default=100, description="Work, in milliseconds, that a process claims ahead.", ge=1, le=60_000
    )
    max_payload_bytes: int = Field(
        default=1_048_576,
        description="Largest encoded arguments or result of a job.",
        ge=1_024,
        le=67_108_864,
    )
    crash_limit: int = Field(
        default=3,
        description="Crashes of its process, while it ran alone, after which a job is given up.",
        ge=1,
        le=100,
    )
    interruption_limit: int = Field(
        default=50,
        description="Interruptions by deploys and evacuations after which a job is given up.",
        ge=1,
        le=10_000,
    )
    deadline_grace_s: float = Field(
        default=5.0,
        description="Time after its timeout in which a job may still hand in its result.",
        ge=0,
        le=3_600,
    )
    recycle_after_jobs: int = Field(
        default=0,
        description="Jobs after which a child process is replaced, once those that it runs have ended. 0: never.",
        ge=0,
        le=1_000_000_000,
    )
    recycle_after_mb: int = Field(
        default=0,
        description="Memory in MiB above which a child process is replaced, once its jobs have ended. 0: never.",
        ge=0,
        le=1_048_576,
    )
    retention_days: int = Field(
        default=7, description="Days for which ended jobs and their history are kept.", ge=1, le=3_650
    )
    partitions_ahead_days: int = Field(
        default=3, description="Days for which partitions are made ahead.", ge=1, le=30
    )
    preset: Literal["default", "specification"] = Field(
        default="default",
        description="Starting values. `specification`: heartbeats every 30 s, dead after 60 s; warns, since one "
        "lost heartbeat is then close to a verdict.",
    )

    _sources: dict[str, str] = PrivateAttr(default_factory=dict)

    @classmethod
    def load(cls, flags: Mapping[str, object] | None = None, config_path: Path | None = None) -> Self:
        """Read file, environment and flags; a flag that is None was not given. Raises InvalidSettings."""
        values: dict[str, object] = {}
        sources: dict[str, str] = {}
        for source, layer in layers(cls, flags or {}, config_path):
            values |= layer
            sources |= dict.fromkeys(layer, source)
        try:
            return cls.model_validate(values).known_from(sources)
        except InvalidSettings as error:
            raise with_source(error, sources) from None

    def known_from(self, sources: Mapping[str, str]) -> Self:
        """The same settings, which now know where their values come from."""
        self._sources = dict(sources)
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)

    @model_validator(mode="wrap")
    @classmethod
    def _one_error(cls, values: Any, build: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return build(_with_preset(values))
        except ValidationError as error:
            raise refusal(error, cls) from None

    @field_validator("queues", "labels", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("queues", "labels")
    @classmethod
    def _named(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not 1 <= len(name) <= 200 for name in value):
            raise ValueError("each must be a name of 1 to 200 characters")
        return tuple(dict.fromkeys(value))

    @field_validator("log_level", "log_format", "preset", "tracing", mode="before")
    @classmethod
    def _lowered(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @field_validator("database_url")
    @classmethod
    def _postgresql(cls, value: SecretStr) -> SecretStr:
        return _checked(value, POSTGRESQL_SCHEMES)

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, value: SecretStr) -> SecretStr:
        return _checked(value, REDIS_SCHEMES)

    @model_validator(mode="after")
    def _together(self) -> Self:
        needed = CONNECTIONS_OF_A_WORKER + CONNECTIONS_OF_A_PROCESS * self.processes
        if needed > self.max_connections:
            raise InvalidSettings(
                "max_connections",
                f"{self.max_connections} are too few for processes = {self.processes}, which need {needed}",
                next_step=f"set max_connections to {needed} or more, or processes to "
                f"{(self.max_connections - CONNECTIONS_OF_A_WORKER) // CONNECTIONS_OF_A_PROCESS}",
            )
        beats = (
            SHORTEST_SILENCE_IN_BEATS_OF_THE_SPECIFICATION
            if self.preset == "specification"
            else SHORTEST_SILENCE_IN_BEATS
        )
        if self.dead_after_s < beats * self.heartbeat_interval_s:
            raise InvalidSettings(
                "dead_after_s",
                f"{self.dead_after_s:g} s are less than {beats} heartbeats of heartbeat_interval_s = "
                f"{self.heartbeat_interval_s:g} s, so workers that live would be declared dead",
                next_step=f"set dead_after_s to {beats * self.heartbeat_interval_s:g} or more",
            )
        if not self.heartbeat_interval_s < self.suspect_after_s <= self.dead_after_s:
            raise InvalidSettings(
                "suspect_after_s",
                f"{self.suspect_after_s:g} s must lie between heartbeat_interval_s = {self.heartbeat_interval_s:g} s "
                f"and dead_after_s = {self.dead_after_s:g} s",
            )
        return self

    def source_of(self, name: str) -> str:
        """Where the value of a field comes from: file, environment, flag, preset, code or default."""
        if name in self._sources:
            return self._sources[name]
        if name in PRESETS[self.preset] and getattr(self, name) == PRESETS[self.preset][name]:
            return f"preset {self.preset}"
        return "code" if name in self.model_fields_set else "default"

    @property
    def cautions(self) -> tuple[str, ...]:
        """What may be set like this and is still unwise."""
        found = []
        if self.dead_after_s < SHORTEST_SILENCE_IN_BEATS * self.heartbeat_interval_s:
            found.append(
                f"dead_after_s = {self.dead_after_s:g} s is only "
                f"{self.dead_after_s / self.heartbeat_interval_s:g} heartbeats long: two late ones are taken for a "
                'death. preset = "default" notices a real death sooner and takes fewer live workers for dead'
            )
        if self.leader_ttl_s > self.dead_after_s:
            found.append(
                f"leader_ttl_s = {self.leader_ttl_s:g} s is longer than dead_after_s = {self.dead_after_s:g} s: "
                "when the leader dies, dead workers are noticed later than that"
            )
        return (*found, *self.unwise_encryption, *misspelt_variables(type(self)))


def origins(settings: Settings) -> dict[str, Origin]:
    """For each field its value, masked where it is secret, and where the value comes from."""
    return {name: Origin(shown(settings, name), settings.source_of(name)) for name in Settings.model_fields}


def shown(settings: Settings, name: str) -> str:
    """The value of a field as it may be shown to anybody."""
    value = getattr(settings, name)
    if isinstance(value, SecretStr):
        text = value.get_secret_value()
        return masked_url(text) if name.endswith("_url") or not text else MASK
    return ",".join(value) if isinstance(value, tuple) else str(value)


def load_problems(
    flags: Mapping[str, object] | None = None, config_path: Path | None = None
) -> list[InvalidSettings]:
    """Everything that `load` would refuse, not only the first."""
    found: list[InvalidSettings] = []
    values: dict[str, object] = {}
    sources: dict[str, str] = {}
    try:
        for source, layer in layers(Settings, flags or {}, config_path):
            values |= layer
            sources |= dict.fromkeys(layer, source)
    except InvalidSettings as error:
        return [error]
    while True:
        try:
            Settings.model_validate(values)
        except InvalidSettings as error:
            found.append(with_source(error, sources))
            if error.field not in values:
                return found
            del values[error.field]
        else:
            return found


def _with_preset(values: Any) -> Any:
    if not isinstance(values, dict) or not isinstance(preset := values.get("preset"), str):
        return values
    return {**PRESETS.get(preset.lower(), {}), **values}


def _checked(value: SecretStr, schemes: tuple[str, ...]) -> SecretStr:
    if fault := server_fault(value.get_secret_value(), schemes):
        raise ValueError(fault)
    return value
