"""A packed DICOM series as a NIfTI image: the array and affine that dcm2niix gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mroi.adapters.dicom.modality import apply_table, has_table
from mroi.adapters.dicom.part10 import parse_head, refusing
from mroi.adapters.dicom.source import is_turned, read_heads
from mroi.adapters.dicom.stack import to_dcm2niix_orientation
from mroi.adapters.nifti import build_header
from mroi.format.datatypes import DATATYPES
from mroi.format.records import FrameType
from mroi.geometry import spacing_of
from mroi.volume.model import Volume
from mroi.volume.source import ArraySource, array_datatype

__all__ = ["iter_nifti"]


def iter_nifti(volume: Volume) -> Iterator[bytes]:
    """Yield the bytes of a NIfTI image of a series; the whole volume is held in memory.

    Rows run from bottom to top, and 3-D acquisitions are turned, as dcm2niix does; every voxel
    keeps its position. Stored values are kept with their slope and intercept; where these differ
    between slices, or are a table, which NIfTI cannot say, values are float32 in real units.

    Raises
    ------
    MroiError
        If the file is damaged.
    """
    has_heads = volume.reader.find_metadata(FrameType.DICOM) is not None
    turned = has_heads and is_turned(read_heads(volume)[0], volume.shape)
    per_slice = volume.reader.head.rescale is not None
    array = np.asarray(volume).astype(np.float32) if per_slice else np.asarray(volume.unscaled)
    if has_heads and volume.provenance.get("values") == "stored":
        array, per_slice = _through_tables(volume, array), True
    if has_heads and volume.geom.datatype.samples == 3:
        array = _to_rgb(volume, array)
    array, affine = to_dcm2niix_orientation(array, volume.affine, turned=turned)
    geom = volume.geom
    source = ArraySource(
        array,
        affine,
        slope=1.0 if per_slice else geom.slope,
        inter=0.0 if per_slice else geom.inter,
    )
    spacing = (*spacing_of(affine), *geom.spacing[3:])
    datatype = array_datatype(array.dtype) if per_slice else DATATYPES[geom.datatype.code]
    yield build_header(
        replace(
            source.geometry,
            datatype=datatype,
            spacing=spacing,
            xform_code=geom.xform_code,
            xyzt_units=geom.xyzt_units,
        )
    )
    for plane in source.planes(2):
        yield plane.tobytes()


def _to_rgb(volume: Volume, array: NDArray[Any]) -> NDArray[Any]:
    """Return colours as RGB, if they are Y, Cb and Cr as stored."""
    from pydicom.pixels.processing import convert_color_space

    with refusing("head"):
        dataset, element = parse_head(read_heads(volume)[0].part10)
        is_native = element is not None and not element.encapsulated
        if not (is_native and str(dataset.PhotometricInterpretation).startswith("YBR_FULL")):
            return array
        flat = np.ascontiguousarray(array).view(np.uint8).reshape(-1, 1, 3)
        rgb = np.ascontiguousarray(convert_color_space(flat, "YBR_FULL", "RGB"))
        return rgb.view(array.dtype).reshape(array.shape)


def _through_tables(volume: Volume, array: NDArray[Any]) -> NDArray[np.float32]:
    """Return (x, y, z, ...) values of a series as its Modality LUTs have them."""
    planes = np.moveaxis(array.reshape(*array.shape[:2], -1, order="F"), 2, 0)
    values = np.stack([plane.astype(np.float32) for plane in planes])
    for head in read_heads(volume):
        with refusing("head"):
            dataset, _ = parse_head(head.part10)
            for number in head.slices if has_table(dataset) else ():
                values[number] = apply_table(planes[number], dataset)
    return np.moveaxis(values, 0, 2).reshape(array.shape, order="F")
