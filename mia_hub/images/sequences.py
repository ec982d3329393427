"""Lazy sequences made of others: an item is asked for when it is needed, and none is kept."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any


class LazySequence(Sequence):
    """A sequence whose subclass gives the item at an index from 0 to its length - 1; a slice is a list."""

    def item(self, index: int) -> Any:
        raise NotImplementedError

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self.item(i) for i in range(*index.indices(len(self)))]
        number = operator.index(index)
        if not -len(self) <= number < len(self):
            raise IndexError(index)
        return self.item(number % len(self))


class ConcatenatedSequence(LazySequence):
    """Two sequences, one after the other."""

    def __init__(self, first: Sequence, second: Sequence):
        self.first, self.second = first, second

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def item(self, index: int) -> Any:
        return self.first[index] if index < len(self.first) else self.second[index - len(self.first)]

    def encoded_file(self, index: int) -> bytes | None:
        """See `mia_hub.images.image.encoded`."""
        from mia_hub.images.image import encoded_file

        first = index < len(self.first)
        return encoded_file(self.first, index) if first else encoded_file(self.second, index - len(self.first))


class SelectedSequence(LazySequence):
    """Some rows of a sequence; a slice is lazy too."""

    def __init__(self, items: Sequence, rows: Sequence[int]):
        self.items, self.rows = items, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index):
        return SelectedSequence(self.items, self.rows[index]) if isinstance(index, slice) else super().__getitem__(index)

    def item(self, index: int) -> Any:
        return self.items[int(self.rows[index])]

    def encoded_file(self, index: int) -> bytes | None:
        """See `mia_hub.images.image.encoded`."""
        from mia_hub.images.image import encoded_file

        return encoded_file(self.items, int(self.rows[index]))


class MappedSequence(LazySequence):
    """A function of each item."""

    def __init__(self, items: Sequence, function: Callable[[Any], Any]):
        self.items, self.function = items, function

    def __len__(self) -> int:
        return len(self.items)

    def item(self, index: int) -> Any:
        return self.function(self.items[index])


class RepeatedItem(LazySequence):
    """One value, ``count`` times."""

    def __init__(self, value: Any, count: int):
        self.value, self.count = value, count

    def __len__(self) -> int:
        return self.count

    def item(self, index: int) -> Any:
        return self.value
