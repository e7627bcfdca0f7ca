"""Networks on the processor and on a GPU: seconds, bytes, and whether each reads the other.

    python benchmarks/neural_device.py [--size medium] [--slices 1] [--volume VOLUME]

Prints a line for each codec, each device that encodes and each that decodes. `tcm`, `tcm-auxt` and
`bcm-net` get networks with random weights, which take the same time and go through the same numbers
as trained ones, but say nothing of sizes. "equal" is whether the voxels are those that the
processor decodes; "again" counts pictures that the processor had to decode again, because the other
device computed something else. The last lines are steps of training. Without a GPU the processor is
measured alone. A few minutes at most.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mroi.codecs import ChunkSpec, Codec, parse
from mroi.codecs.neural import bcm_objective, models, objective
from mroi.training.slices import Stack

DEVICES = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


class Again(logging.Handler):
    """Counts what was decoded again on the processor."""

    count = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Count a warning."""
        self.count += record.levelno >= logging.WARNING


def begun(codec: str, size: str, device: str) -> Any:
    """Return a network with random weights, and what it is trained for."""
    if codec == "bcm-net":
        return bcm_objective.Residues.begin(bcm_objective.SIZES[size], 4.0, 0, device)
    return objective.RateDistortion.begin(codec, objective.SIZES[size], 0.01, 0, device)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return seconds, and what came of it; with a GPU those of a second run, once it is ready."""
    if len(DEVICES) > 1:
        work()
    start = time.perf_counter()
    result = work()
    if len(DEVICES) > 1:
        torch.cuda.synchronize()
    return time.perf_counter() - start, result


def measure(name: str, settings: str, volume: NDArray[Any], again: Again) -> None:
    """Print the lines of a codec."""
    spec = ChunkSpec(volume.shape, volume.dtype, 8 * volume.itemsize)
    for writer in DEVICES:
        codec: Codec = parse(f"{name}:{settings},device={writer}")
        encode, payload = timed(lambda codec=codec: codec.encode(volume, spec))
        expected = None
        for reader in DEVICES:
            os.environ["MROI_DEVICE"] = reader
            again.count = 0
            decode, voxels = timed(lambda codec=codec, at=payload: codec.decode(at, spec))
            expected = voxels if expected is None else expected
            equal = "yes" if np.array_equal(voxels, expected) else "NO"
            print(
                f"| {name} | {writer} | {reader} | {len(payload):,} | {encode:.2f} | {decode:.2f} "
                f"| {equal} | {again.count // len(DEVICES)} |",
                flush=True,
            )
    os.environ["MROI_DEVICE"] = "cpu"


def train(name: str, size: str) -> None:
    """Print how long a step of training takes, with one patch."""
    rng = np.random.default_rng(0)
    patch = 256 if name != "bcm-net" else 64
    planes = rng.integers(0, 256, (8, patch, patch)).astype("u1")
    for device in DEVICES:
        one = begun(name, size, device)
        batch = one.batch([Stack(planes, 8, planes)], rng)

        def step(one: Any = one, batch: Any = batch) -> float:
            loss = one.loss(batch, torch.Generator().manual_seed(0))
            loss.total.backward()
            return float(loss.total.detach())

        print(f"| {name}, one patch of {patch} x {patch} | {device} | {timed(step)[0]:.2f} |")


def main() -> None:
    """Measure all codecs on all devices."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", choices=("tiny", "small", "medium"), default="medium")
    parser.add_argument("--slices", type=int, default=1)
    parser.add_argument("--volume", type=Path, help="NIfTI image of 8 or 16 bits; or a phantom")
    arguments = parser.parse_args()
    volume = load(arguments.volume, arguments.slices)
    where = torch.cuda.get_device_name() if len(DEVICES) > 1 else "there is no GPU here"
    print(f"{volume.shape} {volume.dtype}, torch {torch.__version__}, {where}, one thread\n")
    torch.set_num_threads(1)
    again = Again()
    logging.getLogger("mroi.codecs").addHandler(again)
    print("| codec | encodes | decodes | bytes | encode, s | decode, s | equal | again |")
    print("| --- | --- | --- | ---: | ---: | ---: | --- | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("tcm", "tcm-auxt", "bcm-net"):
            path = Path(folder) / f"{name}{models.SUFFIX}"
            models.save(path, *begun(name, arguments.size, "cpu").model({}))
            measure(name, f"model={path}", volume, again)
    measure("sirenmri", "width=128,steps=100", volume, again)
    print("\n| training | device | a step, s |\n| --- | --- | ---: |")
    for name in ("tcm", "tcm-auxt", "bcm-net"):
        train(name, arguments.size)


def load(path: Path | None, count: int) -> NDArray[Any]:
    """Return slices of the middle of a volume, or a phantom: (slices, rows, columns)."""
    if path is None:
        k, j, i = np.indices((count, 256, 256))
        shade = 120 + 60 * np.sin(j / 9 + k) * np.cos(i / 7) + 20 * np.sin(i * j / 300)
        body = (j - 128) ** 2 + (i - 128) ** 2 < 100**2
        noise = np.random.default_rng(0).normal(0, 3, shade.shape)
        return np.clip(np.where(body, shade, 8) + noise, 0, 255).astype("u1")
    import nibabel

    image: Any = nibabel.load(path)
    voxels = np.asanyarray(image.dataobj.get_unscaled())
    voxels = voxels.reshape(*voxels.shape[:3], -1)[..., 0].T
    start = max(0, len(voxels) // 2 - count // 2)
    block = voxels[start : start + count].astype(np.int64)
    block -= block.min()
    return block.astype("u1" if block.max() < 256 else "<u2")


if __name__ == "__main__":
    main()
