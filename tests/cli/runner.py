"""What the tests of the command line share: a phantom, and what a command left behind."""

import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

SHAPE = (12, 15, 10)
AFFINE = np.array([[-1.5, 0, 0, 9], [0, 1.25, 0.1, -8], [0, -0.1, 3, -12], [0, 0, 0, 1]])


def phantom(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Return an image that no flip or swap of axes leaves as it is, with zeros around it."""
    rng = np.random.default_rng(7)
    image = np.zeros(shape, dtype=np.int16)
    inside = tuple(slice(2, n - 1) for n in shape[:3])
    image[inside] = rng.integers(1, 900, image[inside].shape)
    return image


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str
    data: bytes

    @property
    def records(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.out.splitlines()]


Mroi = Callable[..., Done]
