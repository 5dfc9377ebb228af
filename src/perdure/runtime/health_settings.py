"""The settings of the watch over the workers' health."""

from pydantic import Field
from pydantic_settings import BaseSettings


class HealthSettings(BaseSettings):
    """What `Settings` knows of telemetry and of what follows from it."""

    sample_interval_s: float = Field(
        default=10.0,
        description="Time between two samples that a worker writes of itself: memory, CPU, lag, failures.",
        ge=0.1,
        le=300,
    )
    evacuate_unhealthy: bool = Field(
        default=False,
        description="Have the leader evacuate a worker that is about to fail, when others can take all that it does. Whoever started it must "
        "start another.",
    )
