"""What there is to know of a file without decoding a voxel, as values for JSON."""

from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np

from mroi.format.geom import Geom, SourceFlags
from mroi.format.metadata import parse_digest
from mroi.format.overview import parse_overview
from mroi.format.records import FrameType
from mroi.pictures.planes import has_place
from mroi.text import units_of
from mroi.volume.cost import find_costs
from mroi.volume.model import Volume

__all__ = ["chunk_table", "describe"]

_XFORM = ("unknown space", "scanner", "aligned", "Talairach", "MNI", "template")
_FIDELITY = {1: "lossless", 2: "bounded error", 3: "lossy"}
_SCOPES = {1: "ROI", 2: "volume", 3: "source"}
_SOURCES = {
    "ARRAY": "array",
    "NIFTI1": "NIfTI-1",
    "NIFTI2": "NIfTI-2",
    "NIFTI1_PAIR": "NIfTI-1 pair",
    "NIFTI2_PAIR": "NIfTI-2 pair",
    "DICOM": "DICOM",
    "OTHER": "other",
}


def describe(volume: Volume) -> dict[str, object]:
    """Return what there is to know of a file, as JSON values."""
    geom, reader = volume.geom, volume.reader
    lengths = reader.index.lengths
    return {
        "size": reader.size,
        "index": "front" if reader.head.index is not None else "tail",
        "shape": list(volume.shape),
        "datatype": geom.datatype.name,
        "bits": 8 * geom.datatype.sample.itemsize,
        "bits_stored": geom.bits_stored,
        "spacing": list(volume.spacing),
        "units": list(units_of(geom.xyzt_units)),
        "orientation": volume.orientation if has_place(geom) else None,
        "oblique": _oblique(geom) if has_place(geom) else None,
        "space": _XFORM[geom.xform_code],
        "affine": geom.affine[:3].tolist(),
        "slope": geom.slope,
        "inter": geom.inter,
        "rescale_per_slice": reader.head.rescale is not None,
        "format": _format(geom),
        "roi": {
            "start": list(geom.roi.start),
            "stop": list(geom.roi.stop),
            "share": geom.roi.count / math.prod(geom.shape[:3]),
        },
        "background": geom.background.name,
        "fill": geom.fill_samples.reshape(-1).tolist() if geom.fill.strip(b"\0") else [0],
        "codecs": [
            {
                "name": entry.name,
                "role": entry.role.name.lower(),
                "fidelity": _FIDELITY[entry.fidelity],
                **entry.parameters,
            }
            for entry in reader.head.codecs
        ],
        "lossless": volume.is_lossless,
        "decoded_size": geom.size,
        "ratio": geom.size / reader.size,
        "chunks": {
            "count": len(lengths),
            "shape": list(geom.chunk_shape),
            "smallest": int(lengths.min()),
            "largest": int(lengths.max()),
            "stored": int(lengths.sum()),
        },
        "overview": _overview(volume),
        "read_cost": {name: asdict(cost) for name, cost in find_costs(volume).items()},
        "metadata": {
            f"{frame.header.type.decode()} {frame.header.ordinal}": frame.header.length
            for frame in reader.frames
        },
        "provenance": volume.provenance,
        "sha256": _digests(volume),
    }


def chunk_table(volume: Volume) -> list[dict[str, object]]:
    """Return a line for each chunk: where it is, what it holds, how."""
    reader, grid = volume.reader, volume.geom.grid
    table: list[dict[str, object]] = []
    for ordinal in range(grid.chunks):
        is_roi = ordinal < grid.roi_chunks
        box = grid.chunk(ordinal).box if is_roi else grid.background_box(ordinal)
        volumes = grid.chunk(ordinal).volumes if is_roi else grid.background_volumes(ordinal)
        table.append(
            {
                "chunk": ordinal,
                "offset": int(reader.index.offsets[ordinal]),
                "size": int(reader.index.lengths[ordinal]),
                "decoded": volume.geom.decoded_size(ordinal),
                "state": reader.state_of(ordinal).name.lower(),
                "box": str(box),
                "volumes": f"{volumes.start}:{volumes.stop}",
                "part": "roi" if is_roi else "background",
            }
        )
    return table


def _oblique(geom: Geom) -> float:
    """Return the largest angle, in degrees, between a voxel axis and the nearest patient axis."""
    largest = np.abs(geom.affine[:3, :3]).max(axis=0)
    unit = geom.affine[:3, :3][:, largest > 0] / largest[largest > 0]
    cosines = 1 / np.sqrt((unit**2).sum(axis=0))
    return math.degrees(math.acos(min(float(cosines.min(initial=1.0)), 1.0)))


def _format(geom: Geom) -> dict[str, object]:
    return {
        "kind": _SOURCES[geom.source_kind.name],
        "gzipped": bool(geom.source_flags & SourceFlags.GZIPPED),
        "big_endian": bool(geom.source_flags & SourceFlags.BIG_ENDIAN),
    }


def _overview(volume: Volume) -> dict[str, object] | None:
    """Return what there is to know of the overview without decoding it."""
    frame = volume.reader.find_frame(FrameType.OVERVIEW)
    if frame is None:
        return None
    record = parse_overview(frame.payload, volume.reader.head, offset=frame.header.offset)
    return {
        "factor": list(record.factor),
        "method": record.method.name.lower(),
        "shape": list(record.extent(volume.geom)),
        "volumes": record.volumes,
        "size": frame.header.size,
    }


def _digests(volume: Volume) -> dict[str, str]:
    found = {}
    for frame in volume.reader.frames:
        if frame.header.type == FrameType.DIGEST:
            digest = parse_digest(
                frame.payload, ordinal=frame.header.ordinal, offset=frame.header.offset
            )
            found[_SCOPES[digest.scope]] = digest.sha256.hex()
    return found
