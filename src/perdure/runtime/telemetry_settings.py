"""The settings of what programs tell of themselves: logs and spans."""

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings


class TelemetrySettings(BaseSettings):
    """What `Settings` knows of logs and spans."""

    log_format: Literal["auto", "json", "console"] = Field(
        default="auto",
        description="Format of the log on stderr. `auto`: console on a terminal, JSON elsewhere.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe entries that are logged."
    )
    tracing: Literal["linked", "continued", "off"] = Field(
        default="linked",
        description="OpenTelemetry spans, where the program has set OpenTelemetry up. `linked`: each attempt begins a trace of its "
        "own, with a link to the enqueue; `continued`: it belongs to the trace of the enqueue; `off`: none.",
    )
