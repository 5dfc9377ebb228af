"""The setting of the keys that arguments and results are encrypted with."""

from functools import cached_property

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings

from perdure.domain.errors import InvalidSettings
from perdure.domain.sealing import Keyring


class EncryptionSettings(BaseSettings):
    """What `Settings` knows of encryption."""

    encryption_keys: SecretStr = Field(
        default=SecretStr(""),
        description="Keys for the arguments and results of jobs whose kind is `encrypted`: `id:key` for each, separated by commas, a key being "
        "32 bytes in base64. The first one encrypts, all of them decrypt.",
    )

    @field_validator("encryption_keys")
    @classmethod
    def _check_keys(cls, given: SecretStr) -> SecretStr:
        try:
            Keyring.parse(given.get_secret_value())
        except InvalidSettings as error:
            raise ValueError(f"{error.why}; {error.next_step}") from None
        return given

    @cached_property
    def keyring(self) -> Keyring:
        """The keys."""
        return Keyring.parse(self.encryption_keys.get_secret_value())
