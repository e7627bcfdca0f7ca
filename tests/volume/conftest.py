"""Volumes of every type, shape, box, grid and policy."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

import mroi
from mroi.codecs import Pipeline, parse
from mroi.format.datatypes import DATATYPES, Datatype
from mroi.format.geom import Background, Geom
from mroi.volume.write import VolumeWriter


@dataclass(frozen=True, eq=False)
class Case:
    """A volume to be written: `array` has elements with the axes x, y, z, ..."""

    array: np.ndarray
    geom: Geom
    codec: str
    rescale: np.ndarray | None

    @property
    def scaled(self) -> np.ndarray:
        """What indexing gives: nibabel's arithmetic, written down again."""
        geom, array = self.geom, self.array
        if array.dtype.kind not in "iufc":
            return array
        if self.rescale is not None:
            spatial = [1, 1, 1]
            spatial[geom.slice_axis] = slices = geom.shape[geom.slice_axis]
            slope, inter = self.rescale.reshape(*geom.shape[:2:-1], slices, 2).T
            places = (*spatial, *geom.shape[3:])
            full = array.reshape(geom.shape) * slope.reshape(places) + inter.reshape(places)
            return full.reshape(array.shape)
        if (geom.slope, geom.inter) == (1, 0):
            return array
        return array * np.array([geom.slope]) + np.array([geom.inter])

    def write(self, sink: Any, **options: Any) -> VolumeWriter:
        """Write all slices through `VolumeWriter.write`."""
        geom = self.geom
        with VolumeWriter(
            sink,
            geom,
            pipeline=Pipeline(parse(self.codec)),
            background_pipeline=Pipeline(parse("deflate")) if geom.background.is_stored else None,
            rescale=None if self.rescale is None else self.rescale.astype("<f8").tobytes(),
            **{"jobs": 2, **options},
        ) as writer:
            for image in self.images():
                writer.write(image)
        return writer

    def images(self):
        """Yield the slices in the order of the file."""
        full = self.array.reshape(self.geom.shape)
        for outer in np.ndindex(*full.shape[:2:-1]):
            volume = full[(..., *outer[::-1])]
            yield from np.moveaxis(volume, self.geom.slice_axis, 0)

    def to_bytes(self) -> bytes:
        sink = io.BytesIO()
        self.write(sink)
        return sink.getvalue()


FINITE = st.floats(-1000, 1000, allow_nan=False).filter(lambda v: abs(v) > 1e-3)


@st.composite
def cases(
    draw: st.DrawFn,
    *,
    datatypes: tuple[Datatype, ...] = tuple(DATATYPES.values()),
    policies: tuple[Background, ...] = tuple(Background),
    scaling: bool = True,
) -> Case:
    """Return a volume of up to seven axes, with all that a writer may choose."""
    ndim = draw(st.integers(1, 7))
    sides = [draw(st.integers(1, 5)) for _ in range(min(ndim, 3))]
    sides += [draw(st.integers(1, 2)) for _ in range(ndim - 3)]
    shape = tuple(sides) + (1,) * (3 - len(sides))
    datatype = draw(st.sampled_from(datatypes))
    start = tuple(draw(st.integers(0, n - 1)) for n in shape[:3])
    stop = tuple(draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=False))
    roi = mroi.Box(start, stop)
    policy = draw(st.sampled_from(policies))
    if roi == mroi.Box.whole(shape):
        policy = Background.FILL_VERIFIED
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = int(np.prod(shape))
    few = draw(st.booleans())  # many equal voxels: constant chunks
    raw = rng.integers(0, 2 if few else 256, count * datatype.itemsize, dtype=np.uint8)
    elements = raw.view(f"V{datatype.itemsize}").reshape(shape)
    filled = policy in (Background.FILL_VERIFIED, Background.FILL_LOSSY, Background.OMIT)
    fill = bytes(datatype.itemsize)
    if filled:
        if policy is not Background.OMIT:
            fill = rng.bytes(datatype.itemsize)
        outside = np.ones(shape, bool)
        outside[roi.slices] = False
        elements[outside] = np.frombuffer(fill, elements.dtype)
    slice_axis = draw(st.integers(0, 2))
    slope, inter = draw(st.just((1.0, 0.0)) | st.tuples(FINITE, FINITE)) if scaling else (1.0, 0.0)
    rescale = None
    if scaling and draw(st.integers(0, 3)) == 0:
        slope, inter = 1.0, 0.0
        slices = shape[slice_axis] * int(np.prod(shape[3:]))
        rescale = rng.uniform(0.5, 2, (slices, 2))
    geom = Geom(
        ndim=ndim,
        shape=shape,
        datatype=datatype,
        bits_stored=datatype.bits,
        roi=roi,
        chunk_shape=tuple(draw(st.integers(1, n)) for n in (*roi.shape, (*shape, 1)[3])),
        slice_axis=slice_axis,
        background=policy,
        fill=fill,
        slope=slope,
        inter=inter,
        affine=np.diag([2.0, 3.0, 4.0, 1.0]),
        spacing=(2.0, 3.0, 4.0, *[0.0] * (len(shape) - 3)),
    )
    codec = draw(st.sampled_from(["raw", "zstd", "deflate:shuffle=false"]))
    return Case(elements.view(datatype.element).reshape(shape[:ndim]), geom, codec, rescale)


@pytest.fixture(scope="session")
def case_strategy():
    """The strategy `cases`."""
    return cases
