"""The settings of the models that are trained on the system's own history."""

from pydantic import Field
from pydantic_settings import BaseSettings


class ModelSettings(BaseSettings):
    """What `Settings` knows of trained models."""

    model_training: bool = Field(
        default=True,
        description="Have the leader train models of failures on the history of its workers, compare and promote them. Needs numpy (extra `ml`).",
    )
    model_look_s: float = Field(
        default=3600.0,
        description="Least time between two looks after the models; each takes seconds of one core, in a process of low priority.",
        ge=1,
        le=86_400 * 7,
    )
    model_shadow_s: float = Field(
        default=86_400.0,
        description="How long a new model is compared with what is in force before predictions are made by it.",
        ge=0,
        le=86_400 * 30,
    )
    model_shadow_share: float = Field(
        default=0.02,
        description="Share of the workers of which no warning is acted upon, so that what would have come is known.",
        ge=0,
        le=1,
    )
