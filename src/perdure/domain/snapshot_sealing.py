"""Snapshots that only who has a key can read, and whose manifest only who has the key can write.

A key of its own is derived for each file of each snapshot (HKDF, RFC 5869), from the key of the settings, a salt drawn for the
snapshot, its id and the name of the file. Each file is a row of AES-256-GCM chunks whose nonce is their number and whether it
is the last one (STREAM: Hoang, Reyhanitabar, Rogaway and Vizár, "Online Authenticated-Encryption and its Nonce-Reuse
Misuse-Resistance", 2015), so that none can be changed, left out, put elsewhere or cut off. The manifest stays readable; an
HMAC-SHA256 of its bytes stands beside it.
"""

import hmac
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perdure.domain.errors import ExtraMissing, InvalidSettings, SnapshotLocked, SnapshotUnusable
from perdure.domain.sealing import KEY_BYTES, NO_KEYS, SETTING, Keyring
from perdure.domain.snapshot import MANIFEST, Encryption, Manifest

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

CHUNK = 1 << 18
"""Bytes that are sealed as one; only the last chunk of a file has fewer."""
TAG_BYTES = 16
SALT_BYTES = 16
FINGERPRINT_BYTES = 8
SWITCH = "snapshot_encryption"
_COUNTER_BYTES = 11


@dataclass(frozen=True, slots=True)
class SnapshotSealing:
    """The keys of snapshots here, and whether snapshots are encrypted: then new ones are, and plain ones are not trusted."""

    keys: Keyring = NO_KEYS
    on: bool = False

    def of_new(self, base: Manifest | None) -> Encryption | None:
        """How a new snapshot is encrypted; None when it is not. An increment is as its base is.

        Raises InvalidSettings without a key, and ExtraMissing.
        """
        if not self.on and (base is None or base.encryption is None):
            return None
        if not self.keys:
            raise InvalidSettings(
                SETTING,
                "is empty, and snapshots are to be encrypted",
                next_step=f"set PERDURE_ENCRYPTION_KEYS here, or turn {SWITCH} off and take a full snapshot",
            )
        name, key = next(iter(self.keys.keys.items()))
        return Encryption(key=name, fingerprint=_fingerprint(key), salt=os.urandom(SALT_BYTES).hex())

    def cipher(self, snapshot: str, encryption: Encryption) -> "SnapshotCipher":
        """What seals and opens the files of a snapshot. Raises SnapshotLocked when the key is not here, and ExtraMissing."""
        key = self.keys.keys.get(encryption.key)
        if key is None:
            raise SnapshotLocked(
                snapshot,
                encryption.key,
                f"it was encrypted with the key {encryption.key!r}, which is not here",
                next_step=f"add `{encryption.key}:...` to {SETTING}",
            )
        if not hmac.compare_digest(_fingerprint(key), encryption.fingerprint):
            raise SnapshotLocked(
                snapshot,
                encryption.key,
                f"it was encrypted with another key than the one that is called {encryption.key!r} here",
                next_step=f"put the key with the fingerprint {encryption.fingerprint} into {SETTING}; no two may share an id",
            )
        return SnapshotCipher(key, snapshot, encryption)

    def refuse_untrusted(self, manifest: Manifest, written: bytes, code: bytes | None) -> None:
        """Raise SnapshotUnusable for a manifest that was changed since `code` was made of it, or is plain where snapshots are encrypted.

        Raises SnapshotLocked, too, and ExtraMissing.
        """
        if manifest.encryption is None:
            if self.on:
                raise SnapshotUnusable(
                    manifest.id,
                    f"is not encrypted, and {SWITCH} is on here: anybody may have written it",
                    next_step=f"take a full snapshot; to use this one all the same, turn {SWITCH} off",
                )
            return
        right = self.cipher(manifest.id, manifest.encryption).code(written)
        if code is None or not hmac.compare_digest(right, code):
            why = f"was changed after the key {manifest.encryption.key!r} had sealed it"
            raise SnapshotUnusable(manifest.id, why, part=MANIFEST)


PLAIN = SnapshotSealing()


class SnapshotCipher:
    """Seals and opens the files of one snapshot."""

    def __init__(self, key: bytes, snapshot: str, encryption: Encryption) -> None:
        self._key = key
        self._snapshot = snapshot
        self._salt = encryption.salt.encode()

    def sealer(self, part: str) -> "Chunks":
        """What seals the file of a part; it may be written once."""
        return Chunks(CHUNK, self._aead(part).encrypt, self._about(part))

    def opener(self, part: str) -> "Chunks":
        """What opens the file of a part, for one reading; ValueError tells of the first chunk that is not what was sealed there."""
        aead = self._aead(part)

        def opened(nonce: bytes, chunk: bytes, about: bytes) -> bytes:
            from cryptography.exceptions import InvalidTag

            try:
                return aead.decrypt(nonce, chunk, about)
            except InvalidTag:
                number = int.from_bytes(nonce[:_COUNTER_BYTES], "big")
                why = f"its chunk {number} was changed, is of another place, or the end is missing"
                raise ValueError(why) from None

        return Chunks(CHUNK + TAG_BYTES, opened, self._about(part))

    def code(self, manifest: bytes) -> bytes:
        """What proves that whoever wrote a manifest had the key: 64 characters."""
        key = _derived(self._key, self._salt, self._about(MANIFEST))
        return hmac.digest(key, manifest, "sha256").hex().encode()

    def _aead(self, part: str) -> "AESGCM":
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError:
            raise ExtraMissing("cryptography", extra="encryption") from None
        return AESGCM(_derived(self._key, self._salt, self._about(part)))

    def _about(self, part: str) -> bytes:
        return f"perdure.snapshot/{self._snapshot}/{part}".encode()


class Chunks:
    """A stream on its way through a cipher in bounded memory: each chunk of `size` bytes by itself, the last one at the end."""

    def __init__(self, size: int, turn: Callable[[bytes, bytes, bytes], bytes], about: bytes) -> None:
        self._size = size
        self._turn = turn
        self._about = about
        self._held = bytearray()
        self._number = 0

    def update(self, data: bytes) -> bytes:
        """What has come through. A whole chunk is held until it is known that it is not the last."""
        self._held += data
        turned = []
        while len(self._held) > self._size:
            turned.append(self._next(bytes(self._held[: self._size]), last=False))
            del self._held[: self._size]
        return b"".join(turned)

    def end(self) -> bytes:
        """The last chunk."""
        return self._next(bytes(self._held), last=True)

    def _next(self, chunk: bytes, *, last: bool) -> bytes:
        self._number += 1
        nonce = self._number.to_bytes(_COUNTER_BYTES, "big") + bytes([last])
        return self._turn(nonce, chunk, self._about)


def _fingerprint(key: bytes) -> str:
    """Tells keys of one id apart and nothing else of them."""
    return _derived(key, b"", b"perdure.snapshot/fingerprint")[:FINGERPRINT_BYTES].hex()


def _derived(key: bytes, salt: bytes, about: bytes) -> bytes:
    try:
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF
    except ImportError:
        raise ExtraMissing("cryptography", extra="encryption") from None
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=about).derive(key)
