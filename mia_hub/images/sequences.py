"""Lazy sequences made of others: an item is read when it is needed, and none of these classes stores it."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, overload

import numpy.typing as npt

from mia_hub.images.image import deferred, encoded_file

Item = TypeVar("Item", covariant=True)


class LazySequence(Sequence[Item]):
    """A sequence whose subclass returns the item at an index from 0 to its length - 1; a slice is a list."""

    def item(self, index: int) -> Item:
        raise NotImplementedError

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        if isinstance(index, slice):
            return [self.item(i) for i in range(*index.indices(len(self)))]
        number = operator.index(index)
        if not -len(self) <= number < len(self):
            raise IndexError(index)
        return self.item(number % len(self))


class ConcatenatedSequence(LazySequence[Item]):
    """Two sequences, one after the other."""

    def __init__(self, first: Sequence[Item], second: Sequence[Item]):
        self.first, self.second = first, second

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def item(self, index: int) -> Item:
        return self.first[index] if index < len(self.first) else self.second[index - len(self.first)]

    def encoded_file(self, index: int) -> bytes | None:
        """See `mia_hub.images.image.encoded_file`."""
        return encoded_file(self.first, index) if index < len(self.first) else encoded_file(self.second, index - len(self.first))

    def deferred(self, index: int) -> Callable[[], Item]:
        """See `mia_hub.images.image.deferred`."""
        return deferred(self.first, index) if index < len(self.first) else deferred(self.second, index - len(self.first))


class SelectedSequence(LazySequence[Item]):
    """Some rows of a sequence; a slice is lazy, too."""

    def __init__(self, items: Sequence[Item], rows: Sequence[int] | npt.NDArray[Any]):
        self.items, self.rows = items, rows

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        return SelectedSequence(self.items, self.rows[index]) if isinstance(index, slice) else super().__getitem__(index)

    def item(self, index: int) -> Item:
        return self.items[int(self.rows[index])]

    def encoded_file(self, index: int) -> bytes | None:
        """See `mia_hub.images.image.encoded_file`."""
        return encoded_file(self.items, int(self.rows[index]))

    def deferred(self, index: int) -> Callable[[], Item]:
        """See `mia_hub.images.image.deferred`."""
        return deferred(self.items, int(self.rows[index]))


class MappedSequence(LazySequence[Item]):
    """A function of each item of a sequence."""

    def __init__(self, items: Sequence[Any], function: Callable[[Any], Item]):
        self.items, self.function = items, function

    def __len__(self) -> int:
        return len(self.items)

    def item(self, index: int) -> Item:
        return self.function(self.items[index])


class RepeatedItem(LazySequence[Item]):
    """One value, ``count`` times."""

    def __init__(self, value: Item, count: int):
        self.value, self._length = value, count

    def __len__(self) -> int:
        return self._length

    def item(self, index: int) -> Item:
        return self.value
