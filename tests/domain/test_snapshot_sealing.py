"""Streams of a snapshot are opened by its key alone, each in its place, and whatever is changed, moved or cut off is noticed."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.domain.errors import InvalidSettings, SnapshotLocked, SnapshotUnusable
from perdure.domain.sealing import Keyring
from perdure.domain.snapshot import Encryption, Manifest, chain_of
from perdure.domain.snapshot_sealing import CHUNK, PLAIN, TAG_BYTES, Chunks, SnapshotCipher, SnapshotSealing
from tests.simulation.planting import Bug, planted
from tests.support.snapshots import manifest_of

OLD, NEW = bytes(range(32)), bytes(range(32, 64))
HERE = SnapshotSealing(Keyring({"old": OLD}), on=True)
SEALED = CHUNK + TAG_BYTES
ID = "20260101T000000Z-00000000"


def through(chunks: Chunks, *pieces: bytes) -> bytes:
    return b"".join([*map(chunks.update, pieces), chunks.end()])


def encryption() -> Encryption:
    found = HERE.of_new(None)
    assert found is not None
    return found


def cipher() -> SnapshotCipher:
    return HERE.cipher(ID, encryption())


@settings(deadline=None, max_examples=30)
@given(
    size=st.sampled_from([0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 7]),
    cuts=st.lists(st.integers(0, 2 * CHUNK + 200), max_size=6),
)
def test_a_stream_comes_back_whatever_the_pieces_in_which_it_went(size: int, cuts: list[int]) -> None:
    plain = bytes(number % 251 for number in range(size))
    edges = [0, *sorted(cuts), 2 * SEALED + SEALED]
    one = cipher()
    sealed = through(one.sealer("jobs"), *(plain[a:b] for a, b in pairwise(edges)))
    assert len(sealed) == size + TAG_BYTES * max(1, -(-size // CHUNK))
    opener = one.opener("jobs")
    assert through(opener, *(sealed[a:b] for a, b in pairwise(edges))) == plain
    assert size < 16 or plain[:16] not in sealed


def chunks_of(sealed: bytes) -> list[bytes]:
    return [sealed[at : at + SEALED] for at in range(0, len(sealed), SEALED)]


CHANGES: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "exchanged": lambda c: [c[1], c[0], c[2]],
    "one left out": lambda c: [c[0], c[2]],
    "the first left out": lambda c: [c[1], c[2]],
    "the last cut off": lambda c: [c[0], c[1]],
    "two cut off": lambda c: [c[0]],
    "empty": lambda c: [],
    "one twice": lambda c: [c[0], c[1], c[1], c[2]],
    "a byte cut off": lambda c: [c[0], c[1], c[2][:-1]],
    "a byte more": lambda c: [*c, b"\0"],
    "the last twice": lambda c: [*c, c[2]],
    "a tag flipped": lambda c: [c[0], c[1][:-1] + bytes([c[1][-1] ^ 1]), c[2]],
    "a bit flipped": lambda c: [bytes([c[0][0] ^ 128]) + c[0][1:], c[1], c[2]],
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_is_changed_moved_or_cut_off_is_noticed(change: str) -> None:
    one = cipher()
    chunks = chunks_of(through(one.sealer("jobs"), bytes(2 * CHUNK + 5)))
    assert len(chunks) == 3
    with pytest.raises(ValueError, match=r"chunk [1-4] was changed"):
        through(one.opener("jobs"), *CHANGES[change](chunks))


def test_a_stream_opens_for_no_other_file_snapshot_salt_or_key() -> None:
    mine = encryption()
    sealed = through(HERE.cipher(ID, mine).sealer("jobs"), b"a line\n")
    other_key = SnapshotSealing(Keyring({"old": NEW}))
    for opener in (
        HERE.cipher(ID, mine).opener("leases"),
        HERE.cipher(ID.replace("2026", "2027"), mine).opener("jobs"),
        HERE.cipher(ID, encryption()).opener("jobs"),
        SnapshotCipher(NEW, ID, mine).opener("jobs"),
    ):
        with pytest.raises(ValueError, match="chunk 1 was changed"):
            through(opener, sealed)
    assert through(HERE.cipher(ID, mine).opener("jobs"), sealed) == b"a line\n"
    with pytest.raises(SnapshotLocked, match="another key than the one that is called 'old' here"):
        other_key.cipher(ID, mine)


def test_equal_streams_look_different_in_each_file_and_snapshot() -> None:
    one, other = cipher(), cipher()
    sealed = {through(each.sealer(part), b"same") for each in (one, other) for part in ("a", "b")}
    assert len(sealed) == 4


def test_who_lacks_the_key_is_told_which_and_what_to_do() -> None:
    with pytest.raises(SnapshotLocked, match="the key 'old', which is not here") as refused:
        SnapshotSealing(Keyring({"new": NEW})).cipher(ID, encryption())
    assert (refused.value.key, refused.value.snapshot) == ("old", ID)
    assert refused.value.next_step == "add `old:...` to encryption_keys"
    with pytest.raises(InvalidSettings, match="encryption_keys: is empty"):
        SnapshotSealing(on=True).of_new(None)


def sealed_manifest(base: str | None = None, *, number: int = 1) -> Manifest:
    return replace(manifest_of(number, automatic=False, base=base), encryption=encryption())


def test_an_increment_is_as_its_base_is() -> None:
    """Whatever the switch says, a chain is encrypted as a whole or not at all; the first key seals."""
    off = SnapshotSealing(Keyring({"new": NEW, "old": OLD}))
    found = off.of_new(sealed_manifest())
    assert found is not None
    assert found.key == "new"
    assert off.of_new(manifest_of(1, automatic=False)) is None
    assert off.of_new(None) is None
    assert PLAIN.of_new(None) is None
    with pytest.raises(InvalidSettings, match="encryption_keys"):
        PLAIN.of_new(sealed_manifest())
    with pytest.raises(SnapshotUnusable, match="only one of them is encrypted"):
        chain_of("s2", [manifest_of(1, automatic=False), sealed_manifest("s1", number=2)])
    with pytest.raises(SnapshotUnusable, match="only one of them is encrypted"):
        chain_of("s2", [sealed_manifest(), manifest_of(2, automatic=False, base="s1")])
    assert len(chain_of("s2", [sealed_manifest(), sealed_manifest("s1", number=2)])) == 2


def test_a_manifest_is_trusted_by_its_code_and_a_plain_one_only_where_none_are_encrypted() -> None:
    manifest = sealed_manifest()
    assert manifest.encryption is not None
    code = HERE.cipher(manifest.id, manifest.encryption).code(b"written")
    HERE.refuse_untrusted(manifest, b"written", code)
    for written, beside in ((b"changed", code), (b"written", None), (b"written", code[:-1] + b"x")):
        with pytest.raises(SnapshotUnusable, match=r"manifest\.json: was changed after the key 'old'"):
            HERE.refuse_untrusted(manifest, written, beside)
    plain = manifest_of(1, automatic=False)
    PLAIN.refuse_untrusted(plain, b"written", None)
    with pytest.raises(SnapshotUnusable, match="is not encrypted, and snapshot_encryption is on here"):
        HERE.refuse_untrusted(plain, b"written", None)


ABOUT = 'f"perdure.snapshot/{self._snapshot}/{part}"'
BUGS = (
    Bug(name="no chunk is the last", owner=Chunks, within="_next", old="bytes([last])", new="bytes([0])"),
    Bug(name="chunks have no number", owner=Chunks, within="_next", old="+= 1", new="= 1"),
    Bug(
        name="a key for all files",
        owner=SnapshotCipher,
        within="_about",
        old=ABOUT,
        new='f"{self._snapshot}"',
    ),
    Bug(name="a key for all snapshots", owner=SnapshotCipher, within="_about", old=ABOUT, new='f"{part}"'),
    Bug(
        name="any code will do",
        owner=SnapshotSealing,
        within="refuse_untrusted",
        old="or not hmac.compare_digest(right, code)",
        new="",
    ),
    Bug(
        name="plain ones are trusted",
        owner=SnapshotSealing,
        within="refuse_untrusted",
        old="if self.on:",
        new="if False:",
    ),
    Bug(
        name="any key of that id will do",
        owner=SnapshotSealing,
        within="cipher",
        old="if not hmac.compare_digest(_fingerprint(key), encryption.fingerprint):",
        new="if False:",
    ),
    Bug(
        name="an increment goes by the switch alone",
        owner=SnapshotSealing,
        within="of_new",
        old="and (base is None or base.encryption is None)",
        new="",
    ),
)


def all_guards() -> None:
    for change in CHANGES:
        test_whatever_is_changed_moved_or_cut_off_is_noticed(change)
    test_a_stream_opens_for_no_other_file_snapshot_salt_or_key()
    test_an_increment_is_as_its_base_is()
    test_a_manifest_is_trusted_by_its_code_and_a_plain_one_only_where_none_are_encrypted()


@pytest.mark.parametrize("bug", BUGS, ids=str)
def test_each_guard_is_missed_when_it_is_gone(bug: Bug) -> None:
    """One line of the product is another, and one of the tests above fails."""
    with planted(bug), pytest.raises((AssertionError, pytest.fail.Exception)):
        all_guards()
