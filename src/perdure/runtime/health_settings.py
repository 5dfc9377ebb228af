"""The settings of the watch over the workers' health."""

from pydantic import Field
from pydantic_settings import BaseSettings


class HealthSettings(BaseSettings):
    """What `Settings` knows of telemetry."""

    sample_interval_s: float = Field(
        default=10.0,
        description="Time between two samples that a worker writes of itself: memory, CPU, lag, failures.",
        ge=0.1,
        le=300,
    )
