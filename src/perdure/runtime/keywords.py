"""The keywords of the application object, for type checkers; a test compares them with what they stand for."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict
from uuid import UUID

from perdure.domain.bounds import Key, OnDuplicate
from perdure.domain.durations import Duration
from perdure.domain.job import JobState, OnParentFailure
from perdure.domain.options import Parent

if TYPE_CHECKING:
    from pydantic import SecretStr


class OptionKeywords(TypedDict, total=False):
    """The options of one enqueue; see `perdure.domain.options.EnqueueOptions`."""

    queue: str
    priority: int
    retries: int
    timeout: Duration | None
    labels: Iterable[str]
    concurrency_key: Key | None
    concurrency_limit: int
    unique_key: Key | None
    unique_for: Duration | None
    unique_states: Iterable[JobState | str] | None
    on_duplicate: OnDuplicate
    on_parent_failure: OnParentFailure | str
    inherit_priority: bool
    crash_limit: int | None
    delay: Duration | None
    run_at: datetime | None
    depends_on: Parent | Iterable[Parent]
    id: UUID | None
    metadata: Mapping[str, object]


class SettingKeywords(TypedDict, total=False):
    """The settings by name; see `perdure.runtime.settings.Settings`."""

    database_url: "str | SecretStr"
    redis_url: "str | SecretStr"
    schema: str
    data_dir: Path | str
    app: str
    snapshots: str
    queues: Iterable[str] | str
    labels: Iterable[str] | str
    concurrency: int
    thread_concurrency: int
    cpu_processes: int
    processes: int
    max_connections: int
    heartbeat_interval_s: float
    suspect_after_s: float
    start_timeout_s: float
    dead_after_s: float
    leader_ttl_s: float
    drain_timeout_s: float
    poll_interval_s: float
    unsettled_max: int
    prefetch_max: int
    prefetch_ms: int
    max_payload_bytes: int
    encryption_keys: "str | SecretStr"
    snapshot_encryption: bool
    crash_limit: int
    interruption_limit: int
    deadline_grace_s: float
    recycle_after_jobs: int
    recycle_after_mb: int
    retention_days: int
    partitions_ahead_days: int
    preset: Literal["default", "specification"]
    log_format: Literal["auto", "json", "console"]
    sample_interval_s: float
    evacuate_unhealthy: bool
    model_training: bool
    model_look_s: float
    model_shadow_s: float
    model_shadow_share: float
    web_host: str
    web_port: int
    web_auth: Literal["none", "token", "basic", "proxy-header", "callback"]
    web_users: "str | SecretStr"
    web_callback: str
    web_proxies: Iterable[str] | str
    web_user_header: str
    web_role_header: str
    web_hosts: Iterable[str] | str
    web_read_only: bool
    qdrant_url: "str | SecretStr"
    qdrant_api_key: "str | SecretStr"
    memory_embedder: Literal["auto", "minilm", "hashing"]
    memory_sample: float
    memory_days: int
    alert_interval_s: float
    alert_repeat_s: float
    alert_dashboard: str
    alert_runbooks: str
    alert_webhook: "str | SecretStr"
    alert_webhook_secret: "str | SecretStr"
    alert_slack: "str | SecretStr"
    alert_smtp: "str | SecretStr"
    alert_email_from: str
    alert_email_to: Iterable[str] | str
    alert_alertmanager: "str | SecretStr"
    redact: Iterable[str] | str
    log_level: Literal["debug", "info", "warning", "error"]
    tracing: Literal["linked", "continued", "off"]
