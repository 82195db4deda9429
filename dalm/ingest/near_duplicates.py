"""Detect near-duplicate passages by MinHash signatures and locality-sensitive hashing.

MinHash (Broder, 1997): of two sets of word triples, the fraction of hash functions with the same
minimum estimates the Jaccard similarity |A ∩ B| / |A ∪ B|. There are 128 functions, and one byte
of each minimum is kept (b-bit MinHash: Li and König, 2010, arXiv:0910.3349), so that a passage
takes 128 bytes; the estimate's standard deviation is at most 0.045. Candidates are pairs that
agree in a band of bytes (locality-sensitive hashing): 16 bands of 8 bytes find a pair of
similarity s with probability 1 - (1 - s^8)^16, 0.95 at 0.8 and 0.9999 at 0.9; below 0.75, 32 bands
of 4 bytes are compared.

Passages that differ in a number, a code or a name are no duplicates, however similar they are:
data sheets of two products, a manual's two versions. A hash of those words is combined with the
signature, so that only passages with the same ones have anything in common.
"""

import sys
import zlib
from collections.abc import Sequence
from hashlib import blake2b
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from dalm.ingest.distinguishing_words import CACHED, compared_words, distinguishing_words
from dalm.io.splits import DisjointSets
from dalm.records import normalise

FUNCTIONS = 128
SHINGLE = 3  # words
HASH = 4  # bytes of the hash of a word
KEY = 8  # bytes of the hash of the distinguishing words
TOGETHER = 128  # texts whose triples are hashed together
HASHED = 1 << 17  # values of hash functions that are computed at once, if a text has no more
CHANCE = 1 / 256  # that two different minima have the same byte
WIDE_BANDS = 0.75  # similarity from which bands of 8 bytes find nearly all
EMPTY = -1
FIRST_CAPACITY = 1 << 12

_random = np.random.RandomState(1)  # its stream is frozen for good
_FACTORS = _random.randint(0, 2**32, FUNCTIONS, dtype=np.uint32) | np.uint32(1)
_SUMMANDS = _random.randint(0, 2**32, FUNCTIONS, dtype=np.uint32)

Hashes = NDArray[np.uint32]
Signatures = NDArray[np.uint8]  # (passages, 128)
Keys = NDArray[np.unsignedinteger]
Slots = NDArray[np.int64]


def signatures(texts: Sequence[str]) -> Signatures:
    """Return 128 bytes for each text, whatever its white space and Unicode width.

    They are those of its word triples, combined by exclusive or with a hash of its
    `distinguishing_words`: of two texts that differ in these hardly any byte is the same.
    """
    return shingles_and_signatures(texts)[1]


def shingles_and_signatures(texts: Sequence[str]) -> tuple[list[Hashes], Signatures]:
    """Return the `shingles` and the `signatures` of texts, each split into words once."""
    hashes, keys = list[bytes](), list[bytes]()
    for text in texts:  # one after the other: its words are still in the processor's cache
        words = text.split()
        hashes.append(b"".join(map(_hash_of, compared_words(text, words))))
        distinguishing = "\n".join(distinguishing_words(text, words))
        keys.append(blake2b(distinguishing.encode(), digest_size=KEY).digest())
    triples = _triples(hashes)
    found = minima(triples)
    found.view(np.uint64)[:] ^= np.frombuffer(b"".join(keys), np.uint64)[:, None]
    return triples, found


def minima(triples: Sequence[Hashes]) -> Signatures:
    """Return a byte of the minimum of each hash function over each text's triples."""
    found = np.empty((len(triples), FUNCTIONS), np.uint8)
    for start in range(0, len(triples), TOGETHER):
        part = triples[start : start + TOGETHER]
        hashes = np.concatenate(part)
        starts = np.cumsum([0, *map(len, part[:-1])])
        step = min(FUNCTIONS, max(1, HASHED // len(hashes)))
        values = np.empty((step, len(hashes)), np.uint32)
        for first in range(0, FUNCTIONS, step):
            factors, summands = (each[first : first + step, None] for each in (_FACTORS, _SUMMANDS))
            of_these = np.multiply(factors, hashes, out=values[: len(factors)])  # modulo 2^32
            of_these += summands
            least = np.minimum.reduceat(of_these, starts, axis=1)
            # A minimum is small, so its high bits are zeros; its middle bits are random.
            found[start : start + TOGETHER, first : first + step] = (least >> np.uint32(8)).T
    return found


def shingles(texts: Sequence[str]) -> list[Hashes]:
    """Hash every three consecutive words of each text; a shorter text is one shingle."""
    return _triples([b"".join(map(_hash_of, compared_words(text))) for text in texts])


def _triples(hashes: Sequence[bytes]) -> list[Hashes]:
    """Return the hashes of each text's triples, given those of its words."""
    found = [each.ljust(SHINGLE * HASH, b"\0") for each in hashes]
    words = np.frombuffer(b"".join(found), np.uint32)
    mixed = words[:-2] * np.uint32(0x9E3779B1)
    mixed ^= words[1:-1] * np.uint32(0x85EBCA6B) + (mixed >> np.uint32(15))
    mixed ^= words[2:] * np.uint32(0xC2B2AE35) + (mixed >> np.uint32(13))
    mixed *= np.uint32(0x27D4EB2F)
    mixed ^= mixed >> np.uint32(15)
    ends = accumulate((len(each) // HASH for each in found), initial=0)
    return [mixed[start : end - 2] for start, end in pairwise(ends)]


class _Hashes(dict[str, bytes]):
    """CRC-32 of words, normalised, kept for the next time."""

    def __missing__(self, word: str) -> bytes:
        if len(self) >= CACHED:
            self.clear()
        self[word] = value = zlib.crc32(normalise(word).encode()).to_bytes(HASH, sys.byteorder)
        return value


_hash_of = _Hashes().__getitem__


class NearDuplicateFilter:
    """Keep passages whose similarity to every kept one is below `threshold`.

    A passage takes 128 bytes, and 4 bytes for each of its bands in tables that are at most half
    full: about 300 MB for a million. Only the first passage with a given band is a candidate, so
    that boilerplate costs no more than other text.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.key = np.dtype(np.uint64 if threshold >= WIDE_BANDS else np.uint32)
        self.bands = FUNCTIONS // self.key.itemsize
        self.count = 0
        self.kept = np.empty((FIRST_CAPACITY // 2, FUNCTIONS), np.uint8)
        self.tables = _Tables(self.bands, FIRST_CAPACITY)

    def add(self, found: Signatures) -> NDArray[np.bool_]:
        """Keep the new passages and return which they are, as if they were added one by one."""
        _, similarity = self.compare(found)
        is_new: NDArray[np.bool_] = similarity == 0
        return is_new

    def compare(self, found: Signatures) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Keep the new passages; return each one's row and similarity.

        The row of a new passage is its own, and its similarity 0; of another the row is that of
        the kept passage that it resembles.
        """
        rows = np.empty(len(found), np.int64)
        similarity = np.empty(len(found))
        while self.count + len(found) > len(self.kept):
            self._grow()
        independent = self._independent(found)
        rows[independent], similarity[independent] = self._add_independent(found[independent])
        for i in np.nonzero(~independent)[0]:
            rows[i : i + 1], similarity[i : i + 1] = self._add_independent(found[i : i + 1])
        return rows, similarity

    def _independent(self, found: Signatures) -> NDArray[np.bool_]:
        """Return which share no band with another passage of the same batch."""
        independent = np.ones(len(found), np.bool_)
        keys = np.ascontiguousarray(found.view(self.key).T)
        in_order = np.sort(keys, axis=1)
        repeated = in_order[:, 1:] == in_order[:, :-1]
        for band in np.flatnonzero(repeated.any(axis=1)):
            independent &= ~np.isin(keys[band], in_order[band, 1:][repeated[band]])
        return independent

    def _add_independent(self, found: Signatures) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Add passages that aren't candidates of each other, all at once."""
        keys = found.view(self.key)  # (passages, bands)
        slots, candidates = self.tables.find(keys, self.kept.view(self.key))
        row, band = np.nonzero(candidates != EMPTY)
        same = np.count_nonzero(self.kept[candidates[row, band]] == found[row], axis=1)
        similarity = (same / FUNCTIONS - CHANCE) / (1 - CHANCE)
        like, most = np.empty(len(found), np.int64), np.zeros(len(found))
        for place in np.flatnonzero(similarity >= self.threshold)[::-1]:  # the first one of a tie
            if similarity[place] >= most[row[place]]:
                most[row[place]] = similarity[place]
                like[row[place]] = candidates[row[place], band[place]]
        is_new = most == 0
        rows = self.count + np.cumsum(is_new) - 1
        self.kept[rows[is_new]] = found[is_new]
        self.count += int(is_new.sum())
        row, band = np.nonzero((candidates == EMPTY) & is_new[:, None])
        self.tables.insert(slots[row, band], rows[row])
        return np.where(is_new, rows, like), most

    def _grow(self) -> None:
        """Double the capacity, and insert the rows of the old tables again."""
        larger = np.empty((2 * len(self.kept), FUNCTIONS), np.uint8)
        larger[: self.count] = self.kept[: self.count]
        self.kept = larger
        old, self.tables = self.tables, _Tables(self.bands, 2 * len(larger))
        for band, row_of in enumerate(old.rows.reshape(self.bands, -1)):
            rows = row_of[row_of != EMPTY].astype(np.int64)
            keys = larger.view(self.key)[rows, band]
            self.tables.insert(self.tables.slots(keys, np.int64(band)), rows)


class _Tables:
    """Hash tables with linear probing, one for each band, from a key to the first row with it.

    Keys are not stored: they are compared with the signature of the row.
    """

    def __init__(self, bands: int, capacity: int) -> None:
        self.capacity = capacity  # a power of two
        self.rows = np.full(bands * capacity, EMPTY, np.int32)

    def slots(self, keys: Keys, band: NDArray[np.int64] | np.int64) -> Slots:
        """Return the slot where the search for a key begins (Fibonacci hashing)."""
        spread = keys.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        shift = np.uint64(64 - (self.capacity.bit_length() - 1))
        return (spread >> shift).astype(np.int64) + band * self.capacity

    def find(self, keys: Keys, kept: Keys) -> tuple[Slots, NDArray[np.int32]]:
        """Return the slot of each key (passages, bands) and the row there, EMPTY if none has it."""
        bands = np.broadcast_to(np.arange(keys.shape[1]), keys.shape).ravel()
        wanted = keys.ravel()
        slots = self.slots(wanted, bands)
        rows = self.rows[slots]
        unresolved = np.nonzero(rows != EMPTY)[0]
        while len(unresolved):
            collided = kept[rows[unresolved], bands[unresolved]] != wanted[unresolved]
            unresolved = unresolved[collided]
            slots[unresolved] = self._next(slots[unresolved])
            rows[unresolved] = self.rows[slots[unresolved]]
            unresolved = unresolved[rows[unresolved] != EMPTY]
        return slots.reshape(keys.shape), rows.reshape(keys.shape)

    def insert(self, slots: Slots, rows: NDArray[np.int64]) -> None:
        """Insert rows, whose keys are all new, into the next free slots."""
        while len(rows):
            free = self.rows[slots] == EMPTY
            self.rows[slots[free]] = rows[free]
            left = self.rows[slots] != rows  # the slot was taken, or another of these rows got it
            slots, rows = self._next(slots[left]), rows[left]

    def _next(self, slots: Slots) -> Slots:
        """Return the next slots, wrapping around within each band's table."""
        mask = self.capacity - 1
        return (slots & ~mask) | ((slots + 1) & mask)


def group_near_duplicates(texts: Sequence[str], threshold: float) -> list[int]:
    """Return for each text the index of the first text in its group of near duplicates.

    Groups are transitive: a text that resembles two others joins all three. Candidates come from
    bands of 4 bytes, and the similarity is the fraction of equal bytes, chance included.
    """
    if not texts:
        return []
    found = signatures(texts)
    groups = DisjointSets[int]()
    for band in found.view(np.uint32).T:
        _, first, inverse = np.unique(band, return_index=True, return_inverse=True)
        candidates = first[inverse]  # the first text with the same bytes in this band
        rows = np.flatnonzero(candidates != np.arange(len(texts)))
        similar = (found[rows] == found[candidates[rows]]).mean(axis=1) >= threshold
        pairs = zip(rows[similar].tolist(), candidates[rows[similar]].tolist(), strict=True)
        for row, candidate in pairs:
            groups.join(row, candidate)
    return [groups.find(row) for row in range(len(texts))]
