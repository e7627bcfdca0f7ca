"""Vectors of calv: the codec and the reference decoder give what is written beside each payload.

``python tests/codecs/test_calv_vectors.py`` writes those that are not there. Others are never
changed: old payloads must stay readable.
"""

import dataclasses
import hashlib
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from mroi.codecs.base import ChunkSpec
from mroi.codecs.calv import Calv, adaptive, codec
from mroi.errors import DecodeError

SPEC = Path(__file__).resolve().parents[2] / "spec"
VECTORS = SPEC / "vectors" / "calv"
NAMES = sorted(path.stem for path in VECTORS.glob("*.calv"))
KINDS = ("raw", "fast", "small", "max", "labels")


def load_reference() -> ModuleType:
    """Return the decoder that was written from the page of the specification."""
    found = importlib.util.spec_from_file_location("reference_calv", SPEC / "reference" / "calv.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


reference = load_reference()


def reference_decode(
    payload: bytes,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    volumes: int = 1,
    near: int = 0,
) -> bytes:
    values = reference.decode(payload, shape, dtype.kind, dtype.itemsize, volumes, near)
    return np.array(values, dtype).tobytes()


def head(shape: tuple[int, int, int], dtype: str = "<i2", noise: float = 3.0) -> np.ndarray:
    """Return two tissues in air, a little noisy."""
    rng = np.random.default_rng(5)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    radius = np.sqrt(z**2 / 4 + y**2 + x**2)
    signal = np.where(radius < 0.8, 400 + 200 * np.cos(5 * x + 3 * y), 0) + 150 * (radius < 0.4)
    return np.abs(signal + rng.normal(0, noise, shape)).astype(dtype)


def regions(shape: tuple[int, int, int], dtype: str = "<u2") -> np.ndarray:
    """Return a label map."""
    z, y, x = np.indices(shape)
    return ((z + y // 5 * 3 + (x + y) // 7) % 6 * 211).astype(dtype)


def areas(shape: tuple[int, int, int], dtype: str = "<u2") -> np.ndarray:
    """Return a label map of areas wide enough for runs, some ended by a voxel of another label."""
    z, y, x = np.indices(shape)
    labels = (x + z > 22) * 3 + (y + x > 60) * 5 + (y > 12) * (x < 40)
    labels[np.random.default_rng(6).random(shape) < 0.002] = 9
    return labels.astype(dtype)


def padded(shape: tuple[int, int, int]) -> np.ndarray:
    """Return CT in a circle, far above the padding around it."""
    _, y, x = np.indices(shape)
    inside = (y - shape[1] / 2) ** 2 + (x - shape[2] / 2) ** 2 < shape[1] ** 2 / 4
    return np.where(inside, head(shape) - 1000, -3024).astype("<i2")


def below_air(shape: tuple[int, int, int]) -> np.ndarray:
    """Return two rows of air, and anything below, so few voxels that a trace shows them all."""
    voxels = head(shape, "<i8", noise=8.0)
    voxels[:, :2] = 0
    return voxels


def corners(shape: tuple[int, int, int]) -> np.ndarray:
    """Return a label map with runs, two of them ended by a voxel that nothing foretells."""
    z, y, x = np.indices(shape)
    labels = (x + z > 9) * 300 + (y > 1) * 200
    labels[1, 1, 4] = labels[2, 3, 12] = 700
    return labels.astype("<u4")


def bursts(shape: tuple[int, int, int]) -> np.ndarray:
    """Return a quiet volume with voxels that nothing foretells."""
    rng = np.random.default_rng(7)
    return np.where(rng.random(shape) < 0.03, rng.integers(0, 60000, shape), head(shape))


def series(volumes: int, shape: tuple[int, int, int], noise: float = 3.0) -> np.ndarray:
    """Return slices of several volumes that differ little, some voxels drifting."""
    rng = np.random.default_rng(11)
    still = head(shape).astype(float)
    drift = np.cumsum(rng.normal(0, 2, (volumes, *shape)), axis=0) * (still > 450)
    moving = np.abs(still + drift + rng.normal(0, noise, (volumes, *shape)))
    return moving.reshape(-1, *shape[1:]).astype("<i2")


VOLUMES = {
    "series-fast": 5, "series-small": 5, "series-max": 5, "series-two-fast": 2,
    "series-two-small": 2, "series-plane-fast": 9, "series-plane-max": 9, "series-labels": 3,
    "series-colour-fast": 3, "volumes-fast": 3, "tiny-series-fast": 4, "tiny-series-small": 4,
    "tiny-series-max": 4, "near-series-small": 5, "near-series-max": 4,
}  # fmt: skip


NEAR = {
    "near-small": 2, "near-max": 3, "near-plane-max": 60, "near-byte-small": 1,
    "near-padding-small": 4, "near-wide-max": 20, "near-colour-small": 5, "near-series-small": 3,
    "near-series-max": 2, "near-steps-small": 25, "near-fast": 2, "near-air-small": 40,
    "tiny-near-small": 2, "tiny-near-max": 5,
}  # fmt: skip


def cases() -> dict[str, tuple[np.ndarray, str]]:
    """Return a chunk and a level for each vector."""
    rng = np.random.default_rng(9)
    result = {}
    for level in ("fast", "small", "max"):
        result[f"slab-{level}"] = head((5, 22, 24)), level
        result[f"plane-{level}"] = head((1, 40, 33), noise=20.0), level
        result[f"byte-{level}"] = head((4, 25, 26), noise=1.0).astype("u1"), level
        result[f"padding-{level}"] = padded((4, 30, 30)), level
        result[f"list-{level}"] = head((6, 20, 20)).reshape(1, 1, -1), level
        result[f"wide-noise-{level}"] = (rng.normal(30000, 3000, (3, 30, 30))).astype("<u2"), level
        colour = np.stack([head((2, 30, 31)).astype("u1") + k for k in (0, 9, 40)], axis=-1)
        result[f"colour-{level}"] = colour.astype("u1"), level
    for level in ("small", "max"):
        result[f"bursts-{level}"] = bursts((5, 24, 18)).astype("<u2"), level
        result[f"reach-{level}"] = head((6, 18, 20), noise=8.0), level
    for level in ("fast", "small", "max"):
        result[f"tiny-{level}"] = below_air((4, 5, 5)), level
    result["tiny-labels"] = corners((3, 4, 16)), "fast"
    result["labels"] = regions((5, 24, 25)), "fast"
    result["labels-runs"] = areas((4, 20, 70)), "fast"
    result["labels-int32"] = regions((3, 30, 25), "<i4") * 1000 - 70000, "small"
    result["float"] = head((4, 22, 24)).astype("<f4") * 10 - 500, "fast"
    result["float64"] = head((4, 22, 24)).astype("<f8") - 2.0**40, "small"
    result["unsigned64"] = head((4, 22, 24)).astype("<u8") + np.uint64(2**63), "fast"
    result["fractions"] = head((2, 5, 6)).astype("<f4") / 2, "fast"
    result["constant"] = np.full((3, 30, 30), -7, "<i2"), "fast"
    for level in ("fast", "small", "max"):
        result[f"series-{level}"] = series(5, (3, 20, 19)), level
        result[f"tiny-series-{level}"] = series(4, (2, 4, 4)).astype("<i4"), level
    for level in ("fast", "small"):
        result[f"series-two-{level}"] = series(2, (2, 21, 20)), level
    for level in ("fast", "max"):
        result[f"series-plane-{level}"] = series(9, (1, 18, 17)), level
    result["series-labels"] = np.concatenate([areas((2, 20, 70))] * 3), "fast"
    three = [series(3, (2, 20, 21), noise).astype("u1") for noise in (1.0, 2.0, 3.0)]
    result["series-colour-fast"] = np.stack(three, axis=-1), "fast"
    result["volumes-fast"] = np.concatenate([head((2, 22, 24)) + k for k in (0, 900, 300)]), "fast"
    result["near-fast"] = head((4, 22, 24)), "fast"
    result["near-small"] = head((5, 22, 24)), "small"
    result["near-max"] = head((5, 22, 24)), "max"
    result["near-plane-max"] = head((1, 40, 33), noise=20.0), "max"
    result["near-byte-small"] = 255 - head((4, 25, 26), noise=1.0).astype("u1"), "small"
    result["near-padding-small"] = padded((4, 30, 30)), "small"
    result["near-wide-max"] = np.random.default_rng(1).normal(30000, 3000, (3, 30, 30)).astype(
        "<u2"
    ), "max"  # fmt: skip
    two = [head((2, 30, 31)).astype("u1") + k for k in (0, 9, 40)]
    result["near-colour-small"] = np.stack(two, axis=-1).astype("u1"), "small"
    result["near-series-small"] = series(5, (3, 20, 19)), "small"
    result["near-series-max"] = series(4, (2, 14, 15)), "max"
    result["near-steps-small"] = head((4, 22, 24)).astype("<i4") * 10 - 70000, "small"
    result["near-air-small"] = padded((4, 24, 24)) + bursts((4, 24, 24)).astype("<i2"), "small"
    result["tiny-near-small"] = below_air((4, 5, 5)), "small"
    result["tiny-near-max"] = below_air((4, 5, 5)), "max"
    result["noise"] = rng.integers(0, 256, (3, 12, 13)).astype("u1"), "fast"
    return result


def write() -> None:
    """Write missing vectors, each of the kind that its name and level say, however small."""
    codec._LITTLE = 0
    profiles = adaptive.SMALL, adaptive.MAX
    VECTORS.mkdir(parents=True, exist_ok=True)
    for name, (chunk, level) in cases().items():
        if name in NAMES:
            continue
        volumes = VOLUMES.get(name, 1)
        spec = ChunkSpec(chunk.shape, chunk.dtype, 8 * chunk.dtype.itemsize, volumes)
        far = name.startswith("reach")  # what the encoder takes for large chunks only
        adaptive.SMALL, adaptive.MAX = (
            dataclasses.replace(p, reaches=((0, p.reaches[0][1]),) if far else p.reaches)
            for p in profiles
        )
        order = volumes if "series" in name else 1
        codec._orders = lambda *_, order=order: [order]
        near = NEAR.get(name, 0)
        payload = Calv(level, near).encode(np.ascontiguousarray(chunk), spec)
        decoded = reference_decode(payload, chunk.shape, chunk.dtype, volumes, near)
        assert loss(np.frombuffer(decoded, chunk.dtype), chunk.ravel()) <= near, name
        (VECTORS / f"{name}.calv").write_bytes(payload)
        (VECTORS / f"{name}.raw").write_bytes(decoded)
        about = {
            "shape": chunk.shape,
            "dtype": chunk.dtype.str.replace("|", ""),
            "level": level,
            "kind": KINDS[payload[0] & 7],
            **({"volumes": volumes, "series": bool(payload[0] & 8)} if volumes > 1 else {}),
            **({"near": near, "lossy": bool(payload[0] & 16)} if near else {}),
            "sha256": hashlib.sha256(decoded).hexdigest(),
        }
        (VECTORS / f"{name}.json").write_text(json.dumps(about, indent=1) + "\n")


def loss(decoded: np.ndarray, chunk: np.ndarray) -> int:
    """Return the largest difference; in integers of Python, which have no end."""
    pairs = zip(decoded.ravel().tolist(), chunk.ravel().tolist(), strict=True)
    return max(abs(a - b) for a, b in pairs)


def load(name: str) -> tuple[bytes, bytes, ChunkSpec]:
    """Return payload, expected bytes and the kind of chunk of a vector."""
    about = json.loads((VECTORS / f"{name}.json").read_text())
    payload = (VECTORS / f"{name}.calv").read_bytes()
    expected = (VECTORS / f"{name}.raw").read_bytes()
    assert hashlib.sha256(expected).hexdigest() == about["sha256"]
    flags = 8 * about.get("series", False) + 16 * about.get("lossy", False)
    assert (KINDS[payload[0] & 7], payload[0] & 24) == (about["kind"], flags)
    dtype = np.dtype(about["dtype"])
    spec = ChunkSpec(tuple(about["shape"]), dtype, 8 * dtype.itemsize, about.get("volumes", 1))
    return payload, expected, spec


def test_vectors_show_every_kind() -> None:
    about = [json.loads((VECTORS / f"{name}.json").read_text()) for name in NAMES]
    assert {one["kind"] for one in about} == set(KINDS)
    assert {one["kind"] for one in about if one.get("series")} == set(KINDS) - {"raw"}
    assert {one["kind"] for one in about if one.get("lossy")} == {"small", "max"}
    assert set(NAMES) == set(cases())


@pytest.mark.parametrize("name", NAMES)
def test_the_codec_reads_vectors(name: str) -> None:
    payload, expected, spec = load(name)
    codec = Calv(near=NEAR.get(name, 0))
    assert codec.decode(payload, spec).tobytes() == expected
    for count in range(1, spec.shape[0] + 1):
        part = codec.decode_prefix(payload, spec, count)
        assert part.tobytes() == expected[: len(expected) * count // spec.shape[0]]


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_reads_vectors(name: str) -> None:
    payload, expected, spec = load(name)
    near = NEAR.get(name, 0)
    assert reference_decode(payload, spec.shape, spec.dtype, spec.volumes, near) == expected


@pytest.mark.parametrize("level", ["fast", "small", "max"])
@pytest.mark.parametrize("seed", range(6))
def test_the_reference_agrees_on_other_chunks(seed: int, level: str) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, (5, 24, 24)))
    steps = rng.integers(-4, 5, shape) * rng.integers(0, 2 + seed % 3, shape)
    chunk = (np.cumsum(steps, axis=2) * (1 + 20 * (seed % 2))).astype("<i2")
    spec = ChunkSpec(shape, chunk.dtype, 16)
    payload = Calv(level).encode(chunk, spec)
    assert reference_decode(payload, shape, chunk.dtype) == chunk.tobytes()


@pytest.mark.parametrize("level", ["small", "max"])
@pytest.mark.parametrize("seed", range(4))
def test_the_reference_agrees_within_an_error(
    seed: int, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few values and many, with a background and without."""
    monkeypatch.setattr(codec, "_LITTLE", 0)
    rng = np.random.default_rng(seed)
    shape = (3, 12 + seed, 15)
    steps = rng.integers(-4, 5, shape) * rng.integers(0, 2 + seed % 3, shape)
    chunk = np.maximum(np.cumsum(steps, axis=2) * (1 + 6 * (seed % 2)), -9).astype("<i2")
    near = (1, 30, 2, 5)[seed]
    payload = Calv(level, near).encode(chunk, ChunkSpec(shape, chunk.dtype, 16))
    assert payload[0] & 16
    decoded = Calv(near=near).decode(payload, ChunkSpec(shape, chunk.dtype, 16))
    assert reference_decode(payload, shape, chunk.dtype, near=near) == decoded.tobytes()
    assert 0 < loss(decoded, chunk) <= near


@pytest.mark.parametrize("level", ["fast", "small", "max"])
@pytest.mark.parametrize("volumes", [2, 3, 7])
def test_the_reference_agrees_on_series(volumes: int, level: str) -> None:
    chunk = series(volumes, (3, 20, 19))
    spec = ChunkSpec(chunk.shape, chunk.dtype, 16, volumes)
    payload = Calv(level).encode(chunk, spec)
    assert payload[0] & 8
    assert reference_decode(payload, chunk.shape, chunk.dtype, volumes) == chunk.tobytes()
    assert len(payload) < len(Calv(level).encode(chunk, ChunkSpec(chunk.shape, chunk.dtype, 16)))


@pytest.mark.parametrize("level", ["fast", "small"])
def test_volumes_that_have_nothing_in_common_cost_nothing(level: str) -> None:
    """History is used only where it pays."""
    rng = np.random.default_rng(8)
    order = np.concatenate([rng.permutation(head((4, 22, 24))) for _ in range(3)])
    chunk = np.ascontiguousarray(order + rng.integers(0, 2000, (12, 1, 1))).astype("<i2")
    apart = Calv(level).encode(chunk, ChunkSpec(chunk.shape, chunk.dtype, 16))
    together = Calv(level).encode(chunk, ChunkSpec(chunk.shape, chunk.dtype, 16, 3))
    assert len(together) <= len(apart)


@pytest.mark.parametrize("level", ["fast", "small"])
@pytest.mark.parametrize("slices", [1, 2])
def test_history_costs_nothing_in_few_voxels(slices: int, level: str) -> None:
    """There the coefficients of a predictor more can weigh more than what it saves."""
    chunk = series(4, (slices, 20, 20))
    apart = Calv(level).encode(chunk, ChunkSpec(chunk.shape, chunk.dtype, 16))
    together = Calv(level).encode(chunk, ChunkSpec(chunk.shape, chunk.dtype, 16, 4))
    assert len(together) <= len(apart)


def test_a_series_needs_several_volumes() -> None:
    payload, _, spec = load("series-fast")
    alone = dataclasses.replace(spec, volumes=1)
    with pytest.raises(DecodeError):
        Calv().decode(payload, alone)
    with pytest.raises(reference.BrokenError, match="CLV-18"):
        reference_decode(payload, spec.shape, spec.dtype)


def test_the_reference_agrees_on_a_list_of_many_pieces() -> None:
    rng = np.random.default_rng(6)
    chunk = rng.normal(90, 9, (1, 1, 17_500)).astype("u1")
    payload = Calv().encode(chunk, ChunkSpec(chunk.shape, chunk.dtype, 8))
    assert payload[0] == KINDS.index("fast")
    assert reference_decode(payload, chunk.shape, chunk.dtype) == chunk.tobytes()


@pytest.mark.parametrize("level", ["small", "max"])
def test_the_reference_agrees_where_sums_of_tiles_are_greatest(
    level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows far apart in turn: they have the greatest differences that there can be."""
    monkeypatch.setattr(codec, "_LITTLE", 0)
    rng = np.random.default_rng(3)
    shape = (9, 24, 24)
    drift = np.cumsum(rng.normal(0, 60, shape), axis=2) + np.cumsum(rng.normal(0, 60, shape), 0)
    near = np.clip(np.abs(drift), 0, 3000).astype("<u2")
    chunk = np.where(np.arange(24)[:, np.newaxis] % 2, 65535 - near, near).astype("<u2")
    spec = ChunkSpec(shape, chunk.dtype, 16)
    payload = Calv(level).encode(chunk, spec)
    assert KINDS[payload[0]] == level
    assert reference_decode(payload, shape, chunk.dtype) == chunk.tobytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "slab-fast",
        "slab-small",
        "byte-max",
        "labels",
        "colour-small",
        "series-fast",
        "series-small",
        "near-small",
        "near-max",
    ],
)
def test_codec_and_reference_agree_on_damage(name: str) -> None:
    """Both refuse, or both give the same chunk."""
    payload, _, spec = load(name)
    near = NEAR.get(name, 0)
    rng = np.random.default_rng(4)
    places = {*range(0, 24, 5), *rng.integers(0, len(payload), 3).tolist()}
    for place in sorted(places):
        damaged = bytearray(payload)
        damaged[place] ^= int(rng.integers(1, 256))
        try:
            found = Calv(near=near).decode(bytes(damaged), spec).tobytes()
        except DecodeError:
            found = None
        try:
            expected = reference_decode(bytes(damaged), spec.shape, spec.dtype, spec.volumes, near)
        except reference.BrokenError:
            expected = None
        assert found == expected, f"byte {place}"


if __name__ == "__main__":
    write()
