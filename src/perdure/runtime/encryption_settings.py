"""The settings of encryption: the keys of arguments, results and snapshots."""

from collections.abc import Iterator
from functools import cached_property

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings

from perdure.domain.errors import InvalidSettings
from perdure.domain.sealing import Keyring
from perdure.domain.snapshot_sealing import SnapshotSealing


class EncryptionSettings(BaseSettings):
    """What `Settings` knows of encryption."""

    encryption_keys: SecretStr = Field(
        default=SecretStr(""),
        description="Keys for the arguments and results of jobs whose kind is `encrypted`, and for snapshots: `id:key` for each, separated by commas, "
        "a key being 32 bytes in base64. The first one encrypts, all of them decrypt.",
    )
    snapshot_encryption: bool = Field(
        default=False,
        description="Whether snapshots are encrypted, with the first of `encryption_keys`. Plain ones are then not restored.",
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

    @property
    def sealing(self) -> SnapshotSealing:
        """How snapshots are encrypted."""
        return SnapshotSealing(self.keyring, on=self.snapshot_encryption)

    @property
    def unwise_encryption(self) -> Iterator[str]:
        """What may be set like this and is still unwise."""
        if self.snapshot_encryption and not self.keyring:
            yield "snapshot_encryption is on and encryption_keys is empty: no snapshot can be taken here"
