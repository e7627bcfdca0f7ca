"""Learn what the models of `ebb` begin with: ``ebb-start.bin`` of the page, ``start.bin`` here.

    python tools/ebb_start.py HEAD [--check]

HEAD is ``t1w_7t.nii.gz``, a conversion of ``datalad/example-dicom-structural`` (studyforrest,
PDDL), z ascending. Other volumes are the T1-weighted ICBM 152 atlas that nilearn ships, two volumes
that nibabel ships, and two phantoms. Each is encoded with some steps, each time from a state that
knows nothing; what models know at the end is averaged. With ``--check``, the file is compared, not
written.

The file is part of the bitstream: once version 1 is released, it is never learnt again.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mroi.codecs import ChunkSpec
from mroi.codecs.ebb import Ebb, coefficients, start

ROOT = Path(__file__).resolve().parent.parent
FILES = ROOT / "spec" / "codecs" / "ebb-start.bin", ROOT / "mroi" / "codecs" / "ebb" / "start.bin"
FRESH = -128
ENOUGH = 8.0  # decisions that a context must have seen
MOST = 48  # decisions that count of one volume

Volume = NDArray[np.uint8]


def to_8_bits(voxels: NDArray[Any]) -> Volume:
    """Return voxels with 0 as the lowest value, 255 as the highest."""
    values = np.asarray(voxels, np.float64)
    low, high = values.min(), values.max()
    return np.ascontiguousarray(np.rint((values - low) / (high - low) * 255).astype(np.uint8))


def phantom(seed: int) -> Volume:
    """Return ellipsoids with sharp borders in air, a little noisy, as CT has them."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    axes = (np.linspace(-0.3, 0.3, 32), np.linspace(-1, 1, 200), np.linspace(-1, 1, 200))
    z, y, x = np.meshgrid(*axes, indexing="ij")
    values = np.zeros(z.shape)
    for k in range(24):
        centre = rng.uniform(-0.6, 0.6, 3) * [0.3, 1, 1]
        radius, turn = rng.uniform(0.05, 0.5, 3), rng.uniform(0, np.pi)
        if k == 0:
            centre, radius = np.zeros(3), np.array([0.9, 0.9, 0.8])
        along = (y - centre[1]) * np.cos(turn) + (x - centre[2]) * np.sin(turn)
        across = -(y - centre[1]) * np.sin(turn) + (x - centre[2]) * np.cos(turn)
        scaled = ((z - centre[0]) / radius[0]) ** 2 + (along / radius[1]) ** 2
        inside = scaled + (across / radius[2]) ** 2 < 1
        values = np.where(inside, rng.uniform(60, 120) if k % 4 else rng.uniform(0, 255), values)
    blurred = gaussian_filter(values, 0.6)
    noise = gaussian_filter(rng.normal(0, 5, values.shape), 0.7) * (values > 20)
    return np.rint((blurred + noise).clip(0, 255)).astype(np.uint8)


def volumes(head: Path) -> Iterator[tuple[Volume, tuple[int, ...]]]:
    """Yield each volume, (slices, rows, columns), and the steps that it is encoded with."""
    import nibabel
    import nilearn

    def load(path: Path, volume: int = 0) -> Volume:
        array = np.asarray(nibabel.load(path).dataobj)  # type: ignore[attr-defined]
        return to_8_bits((array if array.ndim == 3 else array[..., volume]).T)

    whole = load(head)
    z, y, x = (n // 2 for n in whole.shape)
    yield whole[z - 40 : z - 8, y - 112 : y + 112, x - 112 : x + 112], (90, 36, 14)
    coronal = whole[z - 100 : z + 100, y : y + 32, x - 100 : x + 100]
    yield coronal.swapaxes(0, 1), (90, 36, 14)
    sagittal = whole[z - 100 : z + 100, y - 100 : y + 100, x + 20 : x + 52]
    yield sagittal.transpose(2, 0, 1), (50, 20)
    atlas = "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
    yield load(Path(nilearn.__file__).parent / atlas)[70:102], (24, 8)
    for seed in (1, 2):
        yield phantom(seed), (50, 24, 10)
    for name in ("anatomical.nii", "example4d.nii.gz"):
        yield load(Path(nibabel.__file__).parent / "tests" / "data" / name), (40, 14)


def fresh() -> coefficients.Model:
    """Return a model that knows nothing."""
    model = coefficients.new_model()
    model.contexts[:] = 26214 << 16
    model.contexts[::8] = 6554 << 16
    model.calm[:], model.signs[:] = 655 << 16, 1 << 31
    model.by_band[:], model.by_level[:], model.by_sign[:] = 11796, 11796, 19661
    return model


def learn(head: Path) -> list[coefficients.Model]:
    """Return what models know after each volume and step."""
    from unittest import mock

    models = []
    for voxels, steps in volumes(head):
        chunk = np.ascontiguousarray(voxels)
        for step in steps:
            model = fresh()
            with mock.patch.object(coefficients, "new_model", return_value=model):
                Ebb(step).encode(chunk, ChunkSpec(chunk.shape, chunk.dtype, 8))
            models.append(model)
    return models


def averaged(contexts: list[NDArray[np.uint32]], sharp: float, least: int) -> NDArray[np.int8]:
    """Return the numbers of contexts, averaged over the first axis of each array."""
    total, weight = np.zeros(contexts[0].shape[1:]), np.zeros(contexts[0].shape[1:])
    for states in contexts:
        probability, count = states >> 16, np.minimum(states & 65535, MOST).astype(float)
        more, less = probability + sharp, 65536.0 - probability + sharp
        total += (count * np.log(more / less)).sum(axis=0)
        weight += count.sum(axis=0)
    logits = total / np.maximum(weight, 1e-9)
    probability = np.rint(65536 / (1 + np.exp(-logits))).clip(least, 65536 - least) / 65536
    numbers = np.rint(16 * np.log(probability / (1 - probability))).clip(-127, 127)
    return np.where(weight >= ENOUGH, numbers, FRESH).astype(np.int8)


def in_order(numbers: NDArray[np.int8], sizes: tuple[int, ...], order: tuple[int, ...]) -> bytes:
    """Return numbers that kernels order in their way, as the page orders them."""
    rest = numbers.shape[1:]
    shaped = numbers.reshape(*(sizes[axis] for axis in order), *rest)
    back = (*np.argsort(order), *range(len(order), len(order) + len(rest)))
    return np.ascontiguousarray(shaped.transpose(back)).tobytes()


def weights_of(models: list[coefficients.Model]) -> bytes:
    """Return the weights, those that have moved most counting most."""
    found = np.zeros((4, 8))
    for name in ("by_band", "by_level"):
        all_ = np.array([getattr(model, name).reshape(4, -1, 8) for model in models], float)
        moved = np.abs(all_ - 11796).sum(axis=(0, 3)) + 1
        for few in range(4):
            found[few] += np.average(all_.mean(axis=0)[few], axis=0, weights=moved[few]) / 2
    signs = np.array([model.by_sign for model in models], float)
    moved = np.abs(signs - 19661).sum(axis=2)
    of_signs = np.tensordot(moved, signs, ((0, 1), (0, 1))) / moved.sum()
    return np.rint(np.append(found, of_signs) / 256).astype(np.int8).tobytes()


def build(models: list[coefficients.Model]) -> bytes:
    """Return the bytes of the file."""
    parts, at = [], 0
    for sizes, order, times in start.MODELS:
        count = int(np.prod(sizes))
        end = at + 8 * times * count
        states = [m.contexts[at:end].reshape(count, times, 8).swapaxes(0, 1) for m in models]
        parts.append(in_order(averaged(states, 6.5536, 64), sizes, order))
        at = end
    parts.append(averaged([m.calm[None] for m in models], 6, 3).tobytes())
    for i, (sizes, order) in enumerate(start.SIGNS):
        count = int(np.prod(sizes))
        states = [m.signs.reshape(len(start.SIGNS), -1)[None, i, :count] for m in models]
        parts.append(in_order(averaged(states, 6, 3), sizes, order))
    return b"".join([*parts, weights_of(models)])


def main() -> None:
    """Learn, and write or compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("head", type=Path)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    data = build(learn(arguments.head))
    for path in FILES:
        if not arguments.check:
            path.write_bytes(data)
        elif path.read_bytes() != data:
            raise SystemExit(f"{path} is not what these volumes teach")
    print(f"{len(data)} bytes, CRC-32 {zlib.crc32(data):08x}")


if __name__ == "__main__":
    main()
