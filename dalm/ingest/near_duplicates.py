"""Near duplicates: the signatures of passages in, whether one was met before out.

MinHash (Broder, 1997): of two sets of word triples, the share of hash functions with the same
least value estimates the Jaccard similarity |A ∩ B| / |A ∪ B|. 128 functions, of each value one
byte is kept (b-bit MinHash: Li and König, 2010, arXiv:0910.3349), so a passage costs 128 bytes;
the estimate's standard deviation is at most 0.045. Candidates come from bands of bytes
(locality-sensitive hashing): 16 of 8 bytes find a pair of similarity s with probability
1 - (1 - s^8)^16, 0.95 at 0.8 and 0.9999 at 0.9; below 0.75, 32 bands of 4 are compared.
"""

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dalm.ingest.sentences import word_list
from dalm.records import normalise

FUNCTIONS = 128
SHINGLE = 3  # words
CHANCE = 1 / 256  # two different values share their byte
STRICT = 0.75  # from here on bands of 8 bytes find nearly all
EMPTY = -1
FIRST_CAPACITY = 1 << 12

_random = np.random.RandomState(1)  # its stream is frozen for good
_FACTORS = _random.randint(0, 2**32, FUNCTIONS, dtype=np.uint32) | np.uint32(1)
_SUMMANDS = _random.randint(0, 2**32, FUNCTIONS, dtype=np.uint32)

Signatures = NDArray[np.uint8]  # (passages, 128)
Keys = NDArray[np.unsignedinteger]
Slots = NDArray[np.int64]


def signatures(texts: Sequence[str]) -> Signatures:
    """Return a row of 128 bytes for each text; white space, case and signs' widths don't count."""
    found = np.empty((len(texts), FUNCTIONS), np.uint8)
    for row, text in enumerate(texts):
        values = _shingles(text)[:, None] * _FACTORS  # (shingles, 128), modulo 2^32
        values += _SUMMANDS
        # The least value's high bits are zeros, for it is small; its middle ones are random.
        found[row] = values.min(axis=0) >> np.uint32(8)
    return found


def _shingles(text: str) -> NDArray[np.uint32]:
    """Hash every three words in a row; a shorter text is one shingle."""
    words = word_list(normalise(text))
    hashes = np.array([zlib.crc32(word.encode()) for word in words] or [0], np.uint32)
    short = SHINGLE - len(hashes)
    if short > 0:
        hashes = np.pad(hashes, (0, short))
    mixed = hashes[:-2] * np.uint32(0x9E3779B1)
    mixed ^= hashes[1:-1] * np.uint32(0x85EBCA6B) + (mixed >> np.uint32(15))
    mixed ^= hashes[2:] * np.uint32(0xC2B2AE35) + (mixed >> np.uint32(13))
    mixed *= np.uint32(0x27D4EB2F)
    mixed ^= mixed >> np.uint32(15)
    return mixed


class NearDuplicates:
    """Tell which passages resemble an earlier one that was kept, by at least `threshold`.

    A passage takes 128 bytes, and 4 bytes for each of its bands in tables that are at most half
    full: about 300 MB for a million. Of those with the same band the first alone is a candidate,
    so that boilerplate costs no more than other text.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.key = np.dtype(np.uint64 if threshold >= STRICT else np.uint32)
        self.bands = FUNCTIONS // self.key.itemsize
        self.count = 0
        self.kept = np.empty((FIRST_CAPACITY // 2, FUNCTIONS), np.uint8)
        self.tables = _Tables(self.bands, FIRST_CAPACITY)

    def add(self, found: Signatures) -> NDArray[np.bool_]:
        """Keep those that are new, and return which: it is as if they came one after the other."""
        is_new = np.zeros(len(found), np.bool_)
        while self.count + len(found) > len(self.kept):
            self._grow()
        alone = self._alone(found)
        is_new[alone] = self._add_unlike(found[alone])
        for place in np.nonzero(~alone)[0]:
            is_new[place] = self._add_unlike(found[place : place + 1])[0]
        return is_new

    def _alone(self, found: Signatures) -> NDArray[np.bool_]:
        """Return which share no band with another one of the same batch."""
        alone = np.ones(len(found), np.bool_)
        for keys in found.view(self.key).T:
            _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
            alone &= counts[inverse] == 1
        return alone

    def _add_unlike(self, found: Signatures) -> NDArray[np.bool_]:
        """Add passages that can't be candidates of each other, all at once."""
        keys = found.view(self.key)  # (passages, bands)
        slots, holders = self.tables.find(keys, self.kept.view(self.key))
        place, band = np.nonzero(holders != EMPTY)
        same = np.count_nonzero(self.kept[holders[place, band]] == found[place], axis=1)
        similarity = (same / FUNCTIONS - CHANCE) / (1 - CHANCE)
        is_new = np.ones(len(found), np.bool_)
        is_new[place[similarity >= self.threshold]] = False
        rows = self.count + np.cumsum(is_new) - 1
        self.kept[rows[is_new]] = found[is_new]
        self.count += int(is_new.sum())
        place, band = np.nonzero((holders == EMPTY) & is_new[:, None])
        self.tables.insert(slots[place, band], rows[place])
        return is_new

    def _grow(self) -> None:
        """Double the room, and put every key into new tables, the first row that has it."""
        larger = np.empty((2 * len(self.kept), FUNCTIONS), np.uint8)
        larger[: self.count] = self.kept[: self.count]
        self.kept = larger
        self.tables = _Tables(self.bands, 2 * len(larger))
        kept = larger[: self.count].view(self.key)
        for band in range(self.bands):
            keys, first = np.unique(kept[:, band], return_index=True)
            self.tables.insert(self.tables.slots(keys, np.int64(band)), first)


class _Tables:
    """Hash tables, one for each band, of the rows that hold a key; linear probing.

    No key is stored: the row's own bytes tell whether it has the key that is looked for.
    """

    def __init__(self, bands: int, capacity: int) -> None:
        self.capacity = capacity  # a power of two
        self.rows = np.full(bands * capacity, EMPTY, np.int32)

    def slots(self, keys: Keys, band: NDArray[np.int64] | np.int64) -> Slots:
        """Return where a key's search begins (Fibonacci hashing)."""
        spread = keys.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        shift = np.uint64(64 - (self.capacity.bit_length() - 1))
        return (spread >> shift).astype(np.int64) + band * self.capacity

    def find(self, keys: Keys, kept: Keys) -> tuple[Slots, NDArray[np.int32]]:
        """Return the slot of each key (passages, bands) and the row there, EMPTY if none has it."""
        bands = np.broadcast_to(np.arange(keys.shape[1]), keys.shape).ravel()
        sought = keys.ravel()
        slots = self.slots(sought, bands)
        rows = self.rows[slots]
        waiting = np.nonzero(rows != EMPTY)[0]
        while len(waiting):
            others = kept[rows[waiting], bands[waiting]] != sought[waiting]
            waiting = waiting[others]
            slots[waiting] = self._next(slots[waiting])
            rows[waiting] = self.rows[slots[waiting]]
            waiting = waiting[rows[waiting] != EMPTY]
        return slots.reshape(keys.shape), rows.reshape(keys.shape)

    def insert(self, slots: Slots, rows: NDArray[np.int64]) -> None:
        """Put rows, whose keys are all new, into the next free slots."""
        while len(rows):
            free = self.rows[slots] == EMPTY
            self.rows[slots[free]] = rows[free]
            lost = self.rows[slots] != rows  # taken before, or by another row in this round
            slots, rows = self._next(slots[lost]), rows[lost]

    def _next(self, slots: Slots) -> Slots:
        """Return the slots that follow, round each band's own table."""
        mask = self.capacity - 1
        return (slots & ~mask) | ((slots + 1) & mask)
