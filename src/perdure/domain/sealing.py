"""Arguments and results that only who has a key can read: AES-256-GCM, each text under the id of its key.

What routes a job stays readable: its kind, queue, priority, labels and keys. The text is bound to its job, so that
nobody can put it into another one (additional authenticated data; NIST SP 800-38D). Nonces are drawn: with 96 bits one key
may seal four billion texts before the chance of a repeated one reaches 2^-32, so keys should be changed long before.
"""

import base64
import binascii
import os
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from perdure.domain.errors import ExtraMissing, InvalidArguments, InvalidSettings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
NONCE_BYTES = 12
MARK = '{"$sealed":'
SETTING = "encryption_keys"


class _Seal(msgspec.Struct):
    key: str
    data: bytes


class _Sealed(msgspec.Struct, forbid_unknown_fields=True):
    seal: _Seal = msgspec.field(name="$sealed")


class Keyring:
    """Keys by their ids: the first one seals, each opens what it has sealed.

    To change the key, put a new one first everywhere, and take an old one away when no job is left that it has sealed.
    """

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._keys = dict(keys)

    @classmethod
    def parse(cls, text: str) -> "Keyring":
        """`id:key` for each, separated by commas; a key is 32 bytes in base64. Raises InvalidSettings, without the key."""
        keys: dict[str, bytes] = {}
        for number, part in enumerate((part.strip() for part in text.split(",") if part.strip()), start=1):
            name, _, encoded = part.partition(":")
            try:
                key = base64.b64decode(
                    encoded, altchars=b"-_" if {"-", "_"} & set(encoded) else None, validate=True
                )
            except (binascii.Error, ValueError):
                key = b""
            if not name or name in keys or len(key) != KEY_BYTES:
                why = f"its {number}. part is not `id:key` with an id of its own and 32 bytes in base64"
                step = "make a key with `openssl rand -base64 32`"
                raise InvalidSettings(SETTING, why, next_step=step)
            keys[name] = key
        return cls(keys)

    @property
    def keys(self) -> Mapping[str, bytes]:
        """The keys themselves, for a process of one's own."""
        return self._keys

    def __bool__(self) -> bool:
        return bool(self._keys)

    def __repr__(self) -> str:
        return f"<keys {', '.join(self._keys) or 'none'}>"

    def seal(self, text: str, job_id: UUID, what: str) -> str:
        """The text as JSON that only the keys open. Raises InvalidSettings where there is none."""
        if not self._keys:
            why = "is empty, and jobs of this kind are encrypted"
            raise InvalidSettings(
                SETTING,
                why,
                next_step="set PERDURE_ENCRYPTION_KEYS where such jobs are enqueued and where they run",
            )
        name = next(iter(self._keys))
        nonce = os.urandom(NONCE_BYTES)
        data = nonce + self._ciphers[name].encrypt(nonce, text.encode(), _about(job_id, what))
        return msgspec.json.encode(_Sealed(_Seal(name, data))).decode()

    def opened(self, text: str, job_id: UUID, what: str) -> str:
        """What was sealed; a text that is not sealed, as it is. Raises InvalidArguments when no key fits or it was changed."""
        if not is_sealed(text):
            return text
        from cryptography.exceptions import InvalidTag

        try:
            seal = msgspec.json.decode(text, type=_Sealed).seal
        except msgspec.MsgspecError:
            raise InvalidArguments(what, "it is marked as sealed, and is not") from None
        if seal.key not in self._keys:
            raise InvalidArguments(
                what, f"the key {seal.key!r} that sealed it is not here", next_step=f"add it to {SETTING}"
            )
        nonce, data = seal.data[:NONCE_BYTES], seal.data[NONCE_BYTES:]
        try:
            return self._ciphers[seal.key].decrypt(nonce, data, _about(job_id, what)).decode()
        except (InvalidTag, ValueError):
            raise InvalidArguments(
                what, f"it was changed after the key {seal.key!r} had sealed it, or belongs to another job"
            ) from None

    @cached_property
    def _ciphers(self) -> "dict[str, AESGCM]":
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError:
            raise ExtraMissing("cryptography", extra="encryption") from None
        return {name: AESGCM(key) for name, key in self._keys.items()}


NO_KEYS = Keyring({})


def is_sealed(text: str) -> bool:
    """Whether a stored text is sealed; PostgreSQL writes a space after the colon, which changes nothing here."""
    return text.startswith(MARK)


def _about(job_id: UUID, what: str) -> bytes:
    return f"{job_id}/{what}".encode()
