"""Whether a volume is a map of labels, which viewers colour and nobody averages."""

from __future__ import annotations

from mroi.adapters.header import header_of
from mroi.format.overview import OverviewMethod, parse_overview
from mroi.format.records import FRAME_HEADER_SIZE, FrameType
from mroi.volume.model import Volume
from mroi.volume.overview import LabelTest

__all__ = ["is_label_map"]

_INTENTS = (1002, 1003)  # NIFTI_INTENT_LABEL, NIFTI_INTENT_NEURONAME


def is_label_map(volume: Volume) -> bool:
    """Whether the values of a volume are numbers of labels.

    The intent of a NIfTI header says so; else how the overview of the file was made; else the
    voxels of three slices of the ROI, most of which repeat their neighbours in a map of labels.

    Parameters
    ----------
    volume : Volume
        Up to three of its chunks are read.

    Raises
    ------
    MroiError
        If what it reads is damaged, or its codec is not installed.
    """
    geom = volume.geom
    is_scaled = volume.reader.head.rescale is not None or (geom.slope, geom.inter) != (1.0, 0.0)
    if volume.stored_dtype.kind not in "iu" or is_scaled:
        return False
    if int(header_of(volume.full)["intent_code"]) in _INTENTS:
        return True
    frame = volume.reader.find_frame(FrameType.OVERVIEW)
    if frame is not None:
        offset = frame.header.offset + FRAME_HEADER_SIZE
        method = parse_overview(frame.payload, volume.reader.head, offset=offset).method
        return method is OverviewMethod.NEAREST
    test = LabelTest()
    axis = geom.slice_axis
    start, stop = geom.roi.start[axis], geom.roi.stop[axis]
    for k in sorted({start + (stop - start) * part // 4 for part in (1, 2, 3)}):
        key = [slice(None), slice(None), slice(None), *(0,) * (len(geom.shape) - 3)]
        key[axis] = slice(k, k + 1)
        plane = volume.full.unscaled.filled[tuple(key[: volume.ndim])]
        test.add(plane.reshape(len(plane), -1))
    return test.says_labels
