"""Millions of names without a Python object for each: a column of strings, and a memory of them.

One Python string takes 50 bytes and more, a set or dict of them 150; a million traces have two
million names. Here a name costs its own letters and 8 bytes.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray


class Strings(Sequence[str]):
    """A column of strings, end to end in one buffer.

    Parameters
    ----------
    data
        uint8[n_bytes], UTF-8.
    offsets
        int64[n + 1]; string i is ``data[offsets[i]:offsets[i + 1]]``.
    """

    __slots__ = ("data", "offsets")

    def __init__(self, data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> None:
        self.data, self.offsets = data, offsets

    @classmethod
    def of(cls, values: Iterable[str]) -> Strings:
        """Pack strings."""
        if isinstance(values, Strings):
            return values
        packed = [value.encode() for value in values]
        ends = np.cumsum([0, *map(len, packed)], dtype=np.int64)
        return cls(np.frombuffer(b"".join(packed), dtype=np.uint8), ends)

    @classmethod
    def concatenate(cls, columns: Sequence[Sequence[str]]) -> Strings:
        """Put columns one after another."""
        packed = [cls.of(column) for column in columns]
        lengths = [np.diff(column.offsets) for column in packed]
        ends = np.concatenate([np.zeros(1, dtype=np.int64), *lengths])
        data = [column.data[column.offsets[0] : column.offsets[-1]] for column in packed]
        return cls(np.concatenate(data), np.cumsum(ends, out=ends))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Strings: ...
    def __getitem__(self, index: int | slice) -> str | Strings:
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        row = range(len(self))[index]  # negative indices, and IndexError
        return self.data[self.offsets[row] : self.offsets[row + 1]].tobytes().decode()

    def __iter__(self) -> Iterator[str]:
        return (value.decode() for value in self.encoded())

    def encoded(self) -> Iterator[bytes]:
        """Iterate over the strings as UTF-8."""
        block = 65_536
        for first in range(0, len(self), block):
            ends = self.offsets[first : first + block + 1]
            data = self.data[ends[0] : ends[-1]].tobytes()
            low = 0
            for high in (ends[1:] - ends[0]).tolist():
                yield data[low:high]
                low = high

    def take(self, rows: NDArray[np.int64]) -> Strings:
        """Select by index, in the order given."""
        starts, lengths = self.offsets[rows], self.offsets[rows + 1] - self.offsets[rows]
        ends = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
        letters = np.arange(ends[-1]) + np.repeat(starts - ends[:-1], lengths)
        return Strings(self.data[letters], ends)


def digests(values: Iterable[str]) -> NDArray[np.uint64]:
    """Hash strings: uint64[n, 2], the first 16 bytes of each SHA-256, big-endian.

    The first column is :func:`calibration.splits.group_hash`. Two of a million names share it with
    a probability of 3e-8, and both columns with one of 1e-27.
    """
    encoded = values.encoded() if isinstance(values, Strings) else (v.encode() for v in values)
    joined = b"".join(hashlib.sha256(value).digest()[:16] for value in encoded)
    return np.frombuffer(joined, dtype=">u8").astype(np.uint64).reshape(-1, 2)


def first_appearance(values: Sequence[str]) -> NDArray[np.int64]:
    """Give strings numbers by first appearance, int64[n]; equal strings get equal numbers.

    Strings in a :class:`Strings` column are compared by their 64-bit hash, see :func:`digests`.
    """
    if isinstance(values, Strings):
        _, first, codes = np.unique(digests(values)[:, 0], return_index=True, return_inverse=True)
        order = np.empty_like(first)
        order[np.argsort(first)] = np.arange(len(first))
        return np.asarray(order[codes], dtype=np.int64)
    index: dict[str, int] = {}
    numbers = (index.setdefault(value, len(index)) for value in values)
    return np.fromiter(numbers, dtype=np.int64, count=len(values))


class Seen:
    """Remembers strings by their 64-bit hash, each with the place where it was first seen.

    An open hash table: 32 to 64 bytes a string. That two different ones of a million are taken for
    one has a probability of 3e-8.
    """

    def __init__(self) -> None:
        self._resize(1024)

    def _resize(self, size: int) -> None:
        self._mask, self._count = size - 1, 0
        self._keys, self._places = array("Q", bytes(8 * size)), array("q", bytes(8 * size))

    def first(self, value: str, place: int) -> int:
        """Give the place where `value` was first seen, which is `place` if it is new."""
        key = int.from_bytes(hashlib.sha256(value.encode()).digest()[:8], "big") or 1
        return self._put(key, place)  # 0 marks an empty slot

    def _put(self, key: int, place: int) -> int:
        keys, slot = self._keys, key & self._mask
        while found := keys[slot]:
            if found == key:
                return self._places[slot]
            slot = (slot + 1) & self._mask
        keys[slot], self._places[slot] = key, place
        self._count += 1
        if 2 * self._count > self._mask:
            old = [(key, place) for key, place in zip(keys, self._places, strict=True) if key]
            self._resize(2 * len(keys))
            for pair in old:
                self._put(*pair)
        return place
