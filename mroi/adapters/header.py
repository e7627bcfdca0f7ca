"""The header of a volume as nibabel has it."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

from mroi.adapters.nifti import build_header, kept_header, parse_header
from mroi.errors import SourceError
from mroi.format.geom import VolumeGeometry
from mroi.volume.model import Volume
from mroi.volume.source import array_datatype

__all__ = ["header_of", "made_header"]


def header_of(volume: Volume) -> Any:
    """Return the header that is kept in a file, or else one that is made from its geometry.

    Parameters
    ----------
    volume : Volume
        A part of one has no header that is kept.

    Returns
    -------
    nibabel.Nifti1Header or nibabel.Nifti2Header
        With the extensions that are kept.

    Raises
    ------
    SourceError
        If nibabel cannot read the header in the file.
    """
    from nibabel.nifti1 import Nifti1Header, Nifti1PairHeader
    from nibabel.nifti2 import Nifti2Header, Nifti2PairHeader
    from nibabel.spatialimages import HeaderDataError

    kept = kept_header(volume)
    if kept is None:
        return _header_for(volume)
    parsed = parse_header(kept.header, name="nIFt", in_pair=kept.is_pair)
    if parsed.is_analyze:
        return _header_for(volume)
    kinds: Any = ((Nifti1Header, Nifti1PairHeader), (Nifti2Header, Nifti2PairHeader))
    single, pair = kinds[parsed.version - 1]
    try:
        found = (pair if kept.is_pair else single).from_fileobj(io.BytesIO(kept.header))
    except HeaderDataError as exc:
        name = volume.reader.source.name
        raise SourceError(f"{name}: nibabel refuses the header in it: {exc}") from exc
    return single(found.binaryblock, found.endianness, check=False, extensions=found.extensions)


def _header_for(volume: Volume) -> Any:
    geometry = replace(volume.geom.volume, shape=volume.shape, affine=volume.affine)
    if volume.reader.head.rescale is not None:  # only floats hold what all slices mean
        geometry = replace(geometry, datatype=array_datatype(volume.dtype), bits_stored=64)
    return made_header(geometry)


def made_header(geometry: VolumeGeometry) -> Any:
    """Return a header for a geometry: NIfTI-1, or NIfTI-2 where it needs that."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    data = build_header(geometry)
    is_nifti1 = len(data) == Nifti1Header.sizeof_hdr + 4
    kind: Any = Nifti1Header if is_nifti1 else Nifti2Header
    return kind.from_fileobj(io.BytesIO(data))
