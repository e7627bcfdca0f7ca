"""A nibabel image in memory, or one that was changed since it was loaded: header and voxels.

What is packed is the NIfTI image that nibabel would save, except that voxels are not converted:
integers with a slope stay so, and any other array is stored as it is.
"""

from __future__ import annotations

import hashlib
import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import override

from mroi.adapters.nifti import clean_header, parse_header, swap_bytes
from mroi.adapters.policy import KEEP, MetadataPolicy
from mroi.container.builder import Metadata
from mroi.errors import SourceError
from mroi.format.datatypes import Datatype
from mroi.format.geom import SourceFlags
from mroi.format.metadata import Digest, DigestScope, build_digest
from mroi.format.records import FrameType
from mroi.volume.source import ArraySource

if TYPE_CHECKING:
    from nibabel.spatialimages import SpatialImage

__all__ = ["ImageSource"]


class ImageSource(ArraySource):
    """A nibabel image with its header: times, units, intent, codes of transforms, extensions.

    Parameters
    ----------
    image : nibabel image
        Of any class; one that is not NIfTI gets the header that nibabel converts its own to.
    affine : (4, 4) array_like, optional
        Instead of that of the image.
    metadata : MetadataPolicy
        What becomes of its header.

    Raises
    ------
    SourceError
        If its voxels or its header cannot be NIfTI.
    """

    name = "image"

    def __init__(
        self,
        image: SpatialImage,
        affine: ArrayLike | None = None,
        metadata: MetadataPolicy = KEEP,
    ) -> None:
        array, slope, inter = _stored(image)
        super().__init__(array)
        given = image.affine if affine is None else np.asarray(affine, dtype=np.float64)
        self._header = _build_header(image, array, given, slope, inter, self._datatype)
        parsed = parse_header(self._header, name=self.name)
        self.geometry = parsed.geometry
        self.warnings = parsed.warnings
        self.provenance = metadata.to_json()
        self._is_stripped = metadata.name == "strip"
        if metadata.name == "clean":
            self._header = clean_header(self._header, parsed)

    @override
    def metadata(self) -> list[Metadata]:
        """Return the header, and the digest of the image that nibabel would save."""
        if self._is_stripped:
            return []
        datatype = self.geometry.datatype
        is_swapped = bool(self.geometry.source_flags & SourceFlags.BIG_ENDIAN) and datatype.swap > 1
        sha256 = hashlib.sha256(self._header)
        for plane in self.planes(2):
            data = plane.reshape(-1).view(np.uint8)
            sha256.update((swap_bytes(data, datatype) if is_swapped else data).data)
        digest = Digest(DigestScope.SOURCE, sha256.digest())
        return [
            Metadata(FrameType.NIFTI, self._header),
            Metadata(FrameType.DIGEST, build_digest(digest), DigestScope.SOURCE),
        ]


def _stored(image: SpatialImage) -> tuple[NDArray[Any], float, float]:
    """Return the voxels as they are stored, with slope and intercept."""
    data: Any = image.dataobj
    if hasattr(data, "get_unscaled") and math.isfinite(data.slope) and math.isfinite(data.inter):
        return np.asanyarray(data.get_unscaled()), float(data.slope), float(data.inter)
    return np.asanyarray(data), 1.0, 0.0


def _build_header(
    image: SpatialImage,
    array: NDArray[Any],
    affine: NDArray[np.float64] | None,
    slope: float,
    inter: float,
    datatype: Datatype,
) -> bytes:
    """Return what stands before the voxels in the file that nibabel would save."""
    import nibabel as nib
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    kind: Any = nib.Nifti1Image
    if isinstance(image.header, nib.Nifti2Header) or max(array.shape, default=0) > 32767:
        kind = nib.Nifti2Image
    try:
        # The header comes into line with shape and affine, as it does when an image is saved.
        header = kind(array, affine, kind.header_class.from_header(image.header)).header
        header["datatype"], header["bitpix"] = datatype.code, 8 * datatype.itemsize
        header["scl_slope"], header["scl_inter"] = slope, inter
        if not len(header.extensions):  # a header of another class loses them
            header.extensions.extend(getattr(image.header, "extensions", ()))
        header["vox_offset"] = 0  # where extensions end
        file = io.BytesIO()
        header.write_to(file)
    except (HeaderDataError, ImageFileError, ValueError, TypeError) as exc:
        raise SourceError(f"NIfTI cannot hold the image: {exc}") from exc
    return file.getvalue()
