"""The settings of the memory of executions: where its vectors are, what makes them, and what is remembered."""

from typing import Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings

from perdure.runtime.urls import url_fault


class MemorySettings(BaseSettings):
    """What `Settings` knows of the memory of executions."""

    qdrant_url: SecretStr = Field(
        default=SecretStr(""),
        description="Qdrant for the memory of executions, as `http://host:6333`. Empty: the one that `perdure dev` or "
        "`perdure memory serve` runs for `data_dir`, else none.",
    )
    qdrant_api_key: SecretStr = Field(default=SecretStr(""), description="API key that Qdrant asks for.")
    memory_embedder: Literal["auto", "minilm", "hashing"] = Field(
        default="auto",
        description="What makes vectors of words: `minilm` (a model, extra `memory`) or `hashing` (wording only). `auto`: "
        "the model where it is installed.",
    )
    memory_sample: float = Field(
        default=0.1,
        description="Share of successes that is remembered; failures always are.",
        ge=0,
        le=1,
    )
    memory_days: int = Field(
        default=90, description="Days for which executions are remembered.", ge=1, le=3_650
    )

    @field_validator("qdrant_url")
    @classmethod
    def _http(cls, value: SecretStr) -> SecretStr:
        if fault := url_fault(value.get_secret_value(), ("http", "https")):
            raise ValueError(fault)
        return value
