"""One part of the inputs, the same on every machine: for arrays of jobs."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from typing_extensions import override

from mroi.errors import UsageError

__all__ = ["Shard"]

T = TypeVar("T")
_MOST = 1_000_000


@dataclass(frozen=True, slots=True)
class Shard:
    """The part `number` of `count`.

    Attributes
    ----------
    number : int
        1 to `count`.
    count : int
        How many parts there are.

    Raises
    ------
    UsageError
        If there is no such part.

    Examples
    --------
    >>> Shard.parse("2/3").part_of(["e", "b", "d", "a", "c"], str)
    ['e', 'b']
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count <= _MOST:
            raise UsageError(
                f"shard {self}: the parts of {self.count} are 1/{self.count} to "
                f"{self.count}/{self.count}"
            )

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Return the shard that a text like ``3/10`` names."""
        found = re.fullmatch(r"([0-9]{1,7})/([0-9]{1,7})", text)
        if found is None:
            raise UsageError(f"shard {text!r}: expected a number of parts, like 3/10")
        return cls(int(found[1]), int(found[2]))

    @override
    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @property
    def name(self) -> str:
        """What a file of this shard alone has in its name."""
        return f"{self.number}-of-{self.count}"

    def part_of(self, inputs: Sequence[T], key: Callable[[T], str]) -> list[T]:
        """Return the inputs of this part, in their order.

        Keys are sorted, then dealt to the parts in turn; inputs with one key stay together.

        Parameters
        ----------
        inputs : sequence
            All of them, in any order.
        key : callable
            What an input is sorted by.
        """
        keys = [key(entry) for entry in inputs]
        mine = set(sorted(set(keys))[self.number - 1 :: self.count])
        return [entry for entry, one in zip(inputs, keys, strict=True) if one in mine]

    def own(self, path: str) -> str:
        """Return the name of this shard's own file: ``run.jsonl``, ``run.3-of-10.jsonl``."""
        place = Path(path)
        return str(place.with_name(f"{place.stem}.{self.name}{place.suffix}"))
