"""``.mroi`` files as images of nibabel, and so of all that loads with it: nilearn, dipy and others.

Importing this module registers the image class, as nibabel has no entry points: from then on
``nibabel.load("scan.mroi")`` and ``nibabel.save(image, "scan.mroi")`` work.

Source: the interfaces of nibabel 5 as its tests state them, `nibabel.tests.test_image_api` and
`nibabel.tests.test_proxy_api`.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping
from typing import Any, Self

import nibabel as nib
import numpy as np
from nibabel import imageclasses
from nibabel.fileholders import FileHolder
from nibabel.fileslice import canonical_slicers
from numpy.typing import DTypeLike, NDArray
from typing_extensions import override

from mroi.adapters.convert import pack
from mroi.adapters.header import header_of
from mroi.adapters.memory import ImageSource
from mroi.format.records import MAGIC
from mroi.volume.model import Volume, open_volume
from mroi.volume.read import Missing

__all__ = ["Mroi2Image", "MroiArrayProxy", "MroiImage", "image_of"]

_MAX_NIFTI1 = 32767  # voxels along an axis


class MroiArrayProxy:
    """The voxels of a file, read when they are indexed: what ``image.dataobj`` is.

    ``proxy[x0:x1, :, z]`` gives values in real units and decodes the chunks that it meets;
    ``numpy.asarray(proxy)`` gives all. Indices are what nibabel takes: integers, slices, an
    ellipsis, and None for a new axis. It can be pickled and shared by threads.

    Parameters
    ----------
    volume : Volume
        The file, opened.
    shape : tuple of int, optional
        Another shape for the same voxels, x fastest.
    """

    def __init__(self, volume: Volume, shape: tuple[int, ...] | None = None) -> None:
        self._volume = volume
        self._shape = volume.shape if shape is None else shape

    @property
    def is_proxy(self) -> bool:
        """True: the voxels are not in memory."""
        return True

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along each axis, x first."""
        return self._shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self._shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the stored values, as for the proxies of nibabel."""
        return self._volume.stored_dtype

    @property
    def volume(self) -> Volume:
        """The volume itself, for its ROI, its overview and what else nibabel has no name for."""
        return self._volume

    @property
    def slope(self) -> float:
        """A stored value v means ``slope * v + inter``; NaN where each slice has its own."""
        return math.nan if self._has_own_factors else self._volume.geom.slope

    @property
    def inter(self) -> float:
        """The intercept; NaN where each slice has its own."""
        return math.nan if self._has_own_factors else self._volume.geom.inter

    @property
    def _has_own_factors(self) -> bool:
        return self._volume.reader.head.rescale is not None

    def get_unscaled(self) -> NDArray[Any]:
        """Return the stored values of the whole volume, without slope and intercept."""
        return self._volume.unscaled[...].reshape(self._shape, order="F")

    def reshape(self, shape: tuple[int, ...]) -> Self:
        """Return the same voxels in another shape; one extent may be -1.

        Raises
        ------
        ValueError
            If it has another number of voxels.
        """
        # NumPy knows what -1 stands for; a view of one byte costs nothing.
        found = np.broadcast_to(np.uint8(0), self._shape).reshape(shape, copy=None).shape
        return type(self)(self._volume, found)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Return a part, in real units."""
        keys = canonical_slicers(key, self._shape)
        real = [k for k in keys if k is not None]
        array = self._read(real)
        kept = (None if k is None else slice(None) for k in keys if not isinstance(k, int))
        return array[tuple(kept)] if len(real) < len(keys) else array

    def _read(self, keys: list[int | slice]) -> NDArray[Any]:
        """Return a part of the voxels in their shape here."""
        if self._shape == self._volume.shape:
            return self._volume[tuple(keys)]
        return self._volume[...].reshape(self._shape, order="F")[tuple(keys)]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:  # noqa: FBT001
        """Return all voxels in real units, x fastest in memory."""
        return self._volume.__array__(dtype, copy).reshape(self._shape, order="F")


class MroiImage(nib.Nifti1Image):
    """A ``.mroi`` file as an image with the header, extensions and affine of its source.

    Where the source was not NIfTI, or its header was not kept, the header is made from shape,
    affine and type.

    The constructor is that of `nibabel.Nifti1Image`. What ``to_filename`` writes has the voxels
    that nibabel would write: those of ``dataobj`` in the type of the header. Of an image that
    nibabel loaded from a NIfTI file, and nobody changed, it is the file, byte for byte.
    """

    valid_exts = (".mroi",)
    files_types = (("image", ".mroi"),)
    _compressed_suffixes = ()
    _origin: nib.Nifti1Pair | None = None  # what it was converted from

    @classmethod
    @override
    def path_maybe_image(
        cls,
        filename: str | os.PathLike[str],
        sniff: tuple[bytes, str] | None = None,
        sniff_max: int = 1024,
    ) -> tuple[bool, tuple[bytes, str] | None]:
        """Return whether a file begins as ``.mroi`` files do, and what was read of it.

        Parameters
        ----------
        filename : path
            The file.
        sniff : tuple of (bytes, str), optional
            What was read before for another class, and the name of the file.
        sniff_max : int
            Bytes to read.
        """
        if not os.fspath(filename).lower().endswith(cls.valid_exts):
            return False, sniff
        sniff = cls._sniff_meta_for(filename, sniff_max, sniff)
        return sniff is not None and sniff[0].startswith(MAGIC), sniff

    @classmethod
    @override
    def from_filename(
        cls,
        filename: str | os.PathLike[str],
        *,
        mmap: bool | str = True,
        keep_file_open: bool | None = None,
        missing: Missing = "error",
    ) -> MroiImage:
        """Open a file, as `nibabel.load` does with these options; see `from_file_map`."""
        return cls.from_file_map(
            cls.filespec_to_file_map(filename),
            mmap=mmap,
            keep_file_open=keep_file_open,
            missing=missing,
        )

    load = from_filename

    @classmethod
    @override
    def from_file_map(
        cls,
        file_map: Mapping[str, FileHolder],
        *,
        mmap: bool | str = True,
        keep_file_open: bool | None = None,
        missing: Missing = "error",
    ) -> MroiImage:
        """Open a file; its voxels are read when they are asked for.

        Parameters
        ----------
        file_map : dict
            ``"image"``, to what has the name of the file or is it.
        mmap, keep_file_open
            As nibabel has them; without effect. The file is open as long as the image is there.
        missing : {"error", "fill"}
            Whether voxels that the file does not have are an error, or are given its fill value.

        Raises
        ------
        MroiError
            If it is no whole, undamaged file, or nibabel cannot read the header in it.
        """
        if mmap not in (True, False, "c", "r"):
            raise ValueError(f"mmap={mmap!r}: expected True, False, 'c' or 'r'")
        holder = file_map["image"]
        target: Any = holder.filename if holder.fileobj is None else holder.fileobj
        image = image_of(open_volume(target, missing=missing))
        image.file_map = file_map
        return image

    @classmethod
    @override
    def from_image(cls, img: Any) -> MroiImage:
        """Return any image of nibabel as one that is saved as a ``.mroi`` file."""
        kind = cls
        is_long = max(img.shape, default=0) > _MAX_NIFTI1
        if is_long or isinstance(img.header, nib.Nifti2Header):
            kind = Mroi2Image
        made: MroiImage = super(MroiImage, kind).from_image(img)
        if isinstance(img, nib.Nifti1Pair) and not isinstance(img, MroiImage):
            made._origin = img
        return made

    @override
    def to_file_map(
        self,
        file_map: Mapping[str, FileHolder] | None = None,
        dtype: DTypeLike | None = None,
        **options: Any,
    ) -> None:
        """Write the image; `nibabel.save` and ``to_filename`` pass their options on to it.

        Parameters
        ----------
        file_map : dict, optional
            ``"image"``, to what has the name of the file or is it; that of the image by default.
        dtype : dtype, optional
            Of the stored values; that of the header by default. Values that it cannot hold are
            scaled, as nibabel scales them.
        **options
            Those of `mroi.pack`: ``purpose="patches"``, say.

        Raises
        ------
        SourceError
            If NIfTI cannot hold voxels or header.
        """
        files: Any = self.file_map if file_map is None else file_map
        self.update_header()
        source = self._source(dtype)
        holder = files["image"]
        if holder.fileobj is None:
            pack(source, holder.filename, overwrite=True, **options)
        else:
            buffer = io.BytesIO()
            pack(source, buffer, **options)
            holder.get_prepare_fileobj("wb").write(buffer.getvalue())
        self.file_map = files

    def _source(self, dtype: DTypeLike | None) -> Any:
        """Return what is to be packed: the stored values, and the header."""
        is_settled = dtype is None and self._dtype_alias is None
        is_stored = is_settled and getattr(self.dataobj, "dtype", None) == self.get_data_dtype()
        if is_stored and np.isnan(self.header["scl_slope"]):
            is_origin = self._origin is not None and self._is_like(self._origin)
            return self._origin if is_origin else ImageSource(self)
        is_nifti2 = isinstance(self.header, nib.Nifti2Header)
        kind: Any = nib.Nifti2Image if is_nifti2 else nib.Nifti1Image
        file = io.BytesIO()
        as_nifti: Any = super()
        as_nifti.to_file_map(kind.make_file_map({"image": file}), dtype)
        return kind.from_bytes(file.getvalue())

    def _is_like(self, origin: nib.Nifti1Pair) -> bool:
        """Whether voxels, header and affine are still those of the image it was converted from."""
        return (
            self.dataobj is origin.dataobj
            and self.header == self.header_class.from_header(origin.header)
            and np.array_equal(self.affine, origin.affine)
        )


class Mroi2Image(MroiImage):
    """A ``.mroi`` file with a NIfTI-2 header; `MroiImage` makes one where that is needed."""

    header_class = nib.Nifti2Header


def image_of(volume: Volume) -> MroiImage:
    """Return a volume, or a part of one such as ``volume.cropped``, as an image of nibabel.

    Raises
    ------
    SourceError
        If nibabel cannot read the header in the file.
    """
    header = header_of(volume)
    kind: Any = Mroi2Image if isinstance(header, nib.Nifti2Header) else MroiImage
    # The header stays as it is if no affine is given with it.
    image: MroiImage = kind(MroiArrayProxy(volume), None, header)
    image._affine = volume.affine.copy()  # noqa: SLF001 (as nibabel does itself)
    return image


def _register() -> None:
    """Add the image class to those that nibabel tries; once."""
    if MroiImage not in imageclasses.all_image_classes:
        imageclasses.all_image_classes.append(MroiImage)
        imageclasses.KNOWN_SPATIAL_FIRST += (MroiImage, Mroi2Image)


_register()
