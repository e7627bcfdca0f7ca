"""The whole job: from a source to a file and back, chosen by what the paths are."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Unpack, cast

from numpy.typing import ArrayLike

from mroi.adapters.gz import gzip_writer
from mroi.adapters.nifti import KeptHeader, NiftiSource, kept_header, restore
from mroi.adapters.policy import MetadataPolicy, PolicyName
from mroi.container import AtomicFile, Source, is_pipe, is_url, name_of, on_disk, refuse_inputs
from mroi.errors import ChecksumError, MroiError, SourceError, UsageError
from mroi.format.geom import SourceFlags, SourceKind
from mroi.format.metadata import DigestScope, NiftiPart, parse_digest
from mroi.format.records import MAGIC, FrameType
from mroi.limits import DEFAULT_LIMITS, Limits
from mroi.packing.options import PackOptions, Wishes, options_with
from mroi.packing.write import PackResult, plan_pack, write_plan
from mroi.volume.jobs import threads_of
from mroi.volume.model import Volume, open_volume
from mroi.volume.progress import Progress
from mroi.volume.source import ArraySource, VoxelSource
from mroi.volume.verify import VerifyReport, compare, verify_volume

if TYPE_CHECKING:
    from nibabel.spatialimages import SpatialImage

    from mroi.adapters.dicom import FoundSeries

__all__ = [
    "UNPACKED_ENDINGS",
    "UnpackResult",
    "is_dicom",
    "looks_like_dicom",
    "open_input",
    "pack",
    "packed_name",
    "picked",
    "series_of",
    "unpack",
    "unpacked_name",
    "verify",
]

_NIFTI_ENDINGS = (".nii", ".nii.gz", ".hdr", ".img", ".hdr.gz", ".img.gz")
_INSTANCE_ENDING = ".dcm"
UNPACKED_ENDINGS = (*_NIFTI_ENDINGS, _INSTANCE_ENDING)
"""What the names of files end in that are unpacked."""


@dataclass(frozen=True, slots=True)
class UnpackResult:
    """What was written.

    Attributes
    ----------
    paths : tuple of Path
        The files, two for a pair; empty when a file object was written to.
    proven : bool
        Whether the SHA-256 of the restored bytes is that of the source, stored in the file.
    """

    paths: tuple[Path, ...]
    proven: bool


def open_input(
    source: str | os.PathLike[str] | ArrayLike | SpatialImage | VoxelSource | FoundSeries,
    *,
    affine: ArrayLike | None = None,
    slope: float = 1.0,
    inter: float = 0.0,
    series: str | None = None,
    like: str = "",
    wanted: Mapping[str, int] | None = None,
    allow_irregular: bool = False,
    allow_missing: bool = False,
    all_bits: bool = False,
    metadata: PolicyName | MetadataPolicy = "keep",
) -> VoxelSource:
    """Return what can be packed of `source`.

    Parameters
    ----------
    source : path, array, nibabel image, FoundSeries or VoxelSource
        A NIfTI image; a DICOM file, or a folder with a series; an array; or a source as it is.
        Of a nibabel image, its NIfTI file if neither voxels nor header were changed since it was
        loaded; otherwise the NIfTI image that nibabel would save, but with the voxels of
        ``image.dataobj`` as they are stored.
    affine : (4, 4) array_like, optional
        Of an array: voxel index to position in mm, RAS+; instead of that of a nibabel image.
    slope, inter : float
        Of an array: a stored value v means ``slope * v + inter``.
    series : str, optional
        Series Instance UID to take from a folder that has several.
    like : str
        That of the one to take if there are several and none is named.
    wanted : mapping, optional
        DICOM volumes to take: ``"acquisition"``, ``"echo"`` or ``"phase"`` to its number.
    allow_irregular : bool
        Accept DICOM slices at irregular distances; their positions are kept.
    allow_missing : bool
        Do without DICOM files of a folder that cannot be read; the packed file says which.
    all_bits : bool
        Take all bits of DICOM pixels as the value, where Bits Stored is wrong.
    metadata : {"keep", "clean", "strip"} or MetadataPolicy
        What becomes of all that is not voxels or geometry. ``"clean"`` leaves out what may identify
        a person, ``"strip"`` all of it; voxels are never touched.

    Raises
    ------
    SourceError
        If it is nothing that can be packed.
    UsageError
        If affine, slope or intercept are given for what has its own.
    """
    policy = metadata if isinstance(metadata, MetadataPolicy) else MetadataPolicy(metadata)
    is_image = hasattr(source, "dataobj") and hasattr(source, "affine")
    is_source = hasattr(source, "planes") and hasattr(source, "geometry")
    if is_source or is_image or isinstance(source, str | os.PathLike):
        if (slope, inter) != (1.0, 0.0):
            raise UsageError("slope and inter are for arrays; this source has its own")
        if affine is not None and not is_image:
            raise UsageError("affine is for arrays and nibabel images; this source has its own")
    if is_source:
        return cast("VoxelSource", source)
    from mroi.adapters.dicom import DicomSource, FoundSeries, read_series

    if isinstance(source, str | os.PathLike | FoundSeries):
        path: Path | FoundSeries = source if isinstance(source, FoundSeries) else _checked(source)
        if isinstance(path, FoundSeries) or path.is_dir() or is_dicom(path):
            found = read_series(
                path,
                series=series,
                like=like,
                wanted=wanted,
                allow_irregular=allow_irregular,
                allow_missing=allow_missing,
                all_bits=all_bits,
            )
            return DicomSource(found, policy)
        return NiftiSource(path, policy)
    if is_image:
        return _open_image(cast("SpatialImage", source), affine, policy)
    return ArraySource(cast("ArrayLike", source), affine, slope=slope, inter=inter)


def _open_image(
    image: SpatialImage, affine: ArrayLike | None, policy: MetadataPolicy
) -> VoxelSource:
    """Return the file of a nibabel image that is unchanged since it was loaded, or the image."""
    import nibabel as nib
    import numpy as np

    path = image.get_filename()
    is_nifti = isinstance(image, nib.Nifti1Pair) and nib.is_proxy(image.dataobj)
    if affine is None and path and is_nifti and path.lower().endswith(_NIFTI_ENDINGS):
        kept = cast("SpatialImage", nib.load(path))
        if kept.header == image.header and np.array_equal(kept.affine, image.affine):
            return NiftiSource(path, policy)
    from mroi.adapters.memory import ImageSource

    return ImageSource(image, affine, policy)


def _checked(source: str | os.PathLike[str]) -> Path:
    """Return the path of a source that is a file or a folder, and no packed file."""
    if is_url(source) or is_pipe(source):
        raise SourceError(f"{source}: not a file; mroi.pack itself takes URLs and pipes")
    path = Path(source)
    if not path.is_dir() and _is_packed(path):
        raise SourceError(f"{path}: an .mroi file already, not an image")
    return path


def _is_packed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, with or without a preamble, gzipped or not.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    from mroi.adapters.dicom import files

    return files.is_dicom(path)


def looks_like_dicom(path: Path) -> bool:
    """Whether a file is DICOM, or is called like one; its bytes may still be damaged."""
    from mroi.adapters.dicom.scan import DICOM_ENDINGS

    return path.name.lower().endswith(DICOM_ENDINGS) or is_dicom(path)


def pack(
    source: str | os.PathLike[str] | ArrayLike | SpatialImage | VoxelSource,
    target: str | os.PathLike[str] | BinaryIO,
    options: PackOptions | None = None,
    *,
    affine: ArrayLike | None = None,
    slope: float = 1.0,
    inter: float = 0.0,
    jobs: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    **wishes: Unpack[Wishes],
) -> PackResult:
    """Pack a volume into a ``.mroi`` file, bit for bit unless a lossy option is chosen.

    Parameters
    ----------
    source : path, URL, array, nibabel image or VoxelSource
        A NIfTI image, a DICOM file or a folder with a series, an array with the axes
        x, y, z, ..., or a nibabel image: see `open_input`, and give what it returns for more say
        in what is taken. What is behind a URL, or comes through a pipe, is copied first.
    target : path or binary file
        A path is written atomically; a file object that cannot seek gets its index at the end.
    options : PackOptions, optional
        What is wished for; nothing by default.
    affine : (4, 4) array_like, optional
        For an array or a nibabel image: voxel index to position in mm, RAS+.
    slope, inter : float
        For an array: a stored value v means ``slope * v + inter``.
    jobs : int, optional
        Threads; the processors by default.
    overwrite : bool
        Whether an existing file is replaced; otherwise `FileExistsError` is raised.
    progress : callable, optional
        Called as ``progress(step, done, total)``.
    **wishes
        Fields of `PackOptions`, in place of those of `options`: ``codec="zstd"``,
        ``roi="full"``, ``quality=mroi.Target(psnr=45)``.

    Returns
    -------
    PackResult
        Sizes, what was chosen, what was lost, and what was odd in the source.

    Raises
    ------
    SourceError
        If the source cannot be packed as it is.
    UsageError
        If a wish makes no sense, or `target` is a file of the source.
    FileExistsError
        If `target` exists and `overwrite` is false.

    Examples
    --------
    >>> import io
    >>> import mroi
    >>> import numpy as np
    >>> options = mroi.PackOptions(codec="zstd", roi="full")
    >>> result = mroi.pack(np.zeros((4, 3, 2), "i2"), io.BytesIO(), options, slope=0.5)
    >>> result.voxel_size
    48
    """
    jobs = threads_of(jobs)
    options = options_with(options, wishes)
    with ExitStack() as stack:
        opened = open_input(_at_hand(source, stack), affine=affine, slope=slope, inter=inter)
        refuse_inputs(target, opened.paths)
        plan = plan_pack(opened, options, progress=progress)
        return write_plan(opened, target, plan, jobs=jobs, overwrite=overwrite, progress=progress)


def _at_hand(source: Any, stack: ExitStack) -> Any:
    """Return an input as it is; of a URL or a pipe, a copy that is there as long as `stack`."""
    if isinstance(source, str | os.PathLike):
        return stack.enter_context(on_disk(source))
    return source


def unpack(
    source: str | os.PathLike[str] | bytes | BinaryIO | Source | Volume,
    target: str | os.PathLike[str] | BinaryIO | None = None,
    *,
    overwrite: bool = False,
    limits: Limits = DEFAULT_LIMITS,
    progress: Progress | None = None,
) -> UnpackResult:
    """Restore the source of a ``.mroi`` file: a NIfTI image, or a DICOM series.

    The bytes of a NIfTI image are those of the uncompressed source; where the file holds their
    SHA-256 they are checked against it before anything appears under the target's name.

    Parameters
    ----------
    source : path, URL, bytes, binary file, Source or Volume
        The packed file.
    target : path or binary file, optional
        ``.nii``, ``.nii.gz``, ``.hdr`` or ``.img`` (for a pair): a NIfTI image, for a DICOM
        series in the orientation that dcm2niix gives it. For a DICOM series, ``.dcm``: its only
        file; any other name: a new folder for its files. By default the name of the source, with
        the ending that its own source had. A file object gets a ``.nii``.
    overwrite : bool
        Whether existing files are replaced; otherwise `FileExistsError` is raised.
    limits : Limits
        What a file may make the reader take.
    progress : callable, optional
        Called as ``progress("unpacking", done, total)``.

    Returns
    -------
    UnpackResult
        What was written, and whether it is proven to be the source.

    Raises
    ------
    MroiError
        If the file is damaged, or the restored bytes are not those of the source.
    UsageError
        If the name of `target` does not fit what is restored, there is none and `source` is no
        path, or `target` is the file itself.
    FileExistsError
        If `target` exists and `overwrite` is false.
    """
    with ExitStack() as stack:
        volume = _opened(source, limits, stack)
        if target is None:
            if not isinstance(source, str | os.PathLike):
                raise UsageError("target is required unless source is a path")
            target = unpacked_name(source, volume)
        if isinstance(target, str | os.PathLike) and _is_folder_name(Path(target), volume):
            return _unpack_series(volume, Path(target), overwrite=overwrite)
        if hasattr(target, "write"):
            refuse_inputs(target, [volume.reader.source])
            outputs = {"image": cast("BinaryIO", target), "header": cast("BinaryIO", target)}
            paths: tuple[Path, ...] = ()
        else:
            outputs, paths = _open_targets(Path(target), volume, stack, overwrite=overwrite)
        proven = _write_restored(volume, outputs, progress)
    return UnpackResult(paths, proven)


def _opened(
    source: str | os.PathLike[str] | bytes | BinaryIO | Source | Volume,
    limits: Limits,
    stack: ExitStack,
) -> Volume:
    """Return the volume that is meant; one that is opened here is closed with `stack`."""
    if isinstance(source, Volume):
        return source
    return stack.enter_context(open_volume(source, limits=limits))


def _is_folder_name(path: Path, volume: Volume) -> bool:
    """Whether a DICOM series is wanted, not an image of it."""
    is_dicom_source = volume.geom.source_kind is SourceKind.DICOM
    return is_dicom_source and not path.name.lower().endswith(_NIFTI_ENDINGS)


def _unpack_series(volume: Volume, target: Path, *, overwrite: bool) -> UnpackResult:
    """Write a DICOM series into a new folder, or its only instance into a file."""
    from mroi.adapters.dicom import restore_instance, restore_series

    if not target.name.lower().endswith(_INSTANCE_ENDING):
        return UnpackResult(tuple(restore_series(volume, target)), proven=False)
    with AtomicFile(target, overwrite=overwrite, inputs=[volume.reader.source]) as file:
        file.write(restore_instance(volume, target))
    return UnpackResult((target,), proven=False)


def _open_targets(
    path: Path, volume: Volume, stack: ExitStack, *, overwrite: bool
) -> tuple[dict[str, BinaryIO], tuple[Path, ...]]:
    """Open the file, or the two files, that `path` stands for."""
    name = path.name.lower()
    ending = next((e for e in sorted(_NIFTI_ENDINGS, key=len)[::-1] if name.endswith(e)), None)
    if ending is None:
        raise UsageError(f"{path}: expected a name that ends in .nii, .nii.gz, .hdr or .img")
    is_pair = _restores_pair(volume)
    if is_pair != (".nii" not in ending):
        wanted = ".hdr or .img: it is a pair" if is_pair else ".nii or .nii.gz: it is a single file"
        raise UsageError(f"{path}: the restored image needs a name in {wanted}")
    gz = ".gz" if ending.endswith(".gz") else ""
    stem = path.name[: len(path.name) - len(ending)]
    parts = (
        {"header": f"{stem}.hdr{gz}", "image": f"{stem}.img{gz}"}
        if is_pair
        else {"image": path.name}
    )
    outputs: dict[str, BinaryIO] = {}
    for part, file_name in parts.items():
        target = AtomicFile(
            path.with_name(file_name), overwrite=overwrite, inputs=[volume.reader.source]
        )
        raw = stack.enter_context(target)
        if gz:  # what stood behind the stream of the source follows that of the copy
            kind = NiftiPart.AFTER_GZIP if part == "image" else NiftiPart.HEADER_AFTER_GZIP
            trailing = volume.reader.find_metadata(FrameType.NIFTI, kind)
            stack.callback(raw.write, trailing or b"")
            outputs[part] = stack.enter_context(gzip_writer(raw))
        else:
            outputs[part] = raw
    return outputs, tuple(path.with_name(file_name) for file_name in parts.values())


def _restores_pair(volume: Volume) -> bool:
    kept = kept_header(volume)
    return kept is not None and kept.is_pair


def _write_restored(
    volume: Volume, outputs: dict[str, BinaryIO], progress: Progress | None
) -> bool:
    """Write the restored bytes; return whether their SHA-256 was in the file, and right."""
    total = volume.geom.shape[2] * volume.geom.grid.volumes
    for done, (part, data) in enumerate(_restored(volume)):
        outputs[part].write(data)
        if progress:
            progress("unpacking", min(done, total), total)
    return _stated_digest(volume) is not None


def iter_image(volume: Volume) -> Iterator[bytes]:
    """Yield the bytes of the NIfTI image that `volume` restores to, with bounded memory.

    Raises
    ------
    UsageError
        If the source was a pair: it is two files.
    ChecksumError
        At the end, if the bytes are not those of the source.
    """
    if _restores_pair(volume):
        raise UsageError("the source is a pair (.hdr and .img), not one file: use `mroi unpack`")
    return (data for _part, data in _restored(volume))


def _restored(volume: Volume) -> Iterator[tuple[str, bytes]]:
    """Yield the bytes of the NIfTI image of any volume, as (part, bytes); check their digest."""
    sha256 = hashlib.sha256()
    for part, data in _unchecked(volume):
        sha256.update(data)
        yield part, data
    if _stated_digest(volume) not in (None, sha256.digest()):
        raise ChecksumError("the restored bytes are not those of the source", "MET-2")


def _unchecked(volume: Volume) -> Iterator[tuple[str, bytes]]:
    if volume.geom.source_kind is not SourceKind.DICOM:
        yield from restore(volume)
        return
    from mroi.adapters.dicom.image import iter_nifti

    for data in iter_nifti(volume):
        yield "image", data


def _is_instance(volume: Volume) -> bool:
    """Whether a file holds a DICOM series of a single file."""
    from mroi.adapters.dicom import read_heads

    try:
        return len(read_heads(volume)) == 1
    except MroiError:  # it has none, or they are damaged, which unpacking says
        return False


def _stated_digest(volume: Volume) -> bytes | None:
    """Return the SHA-256 that the restored bytes must have, None if the file does not say."""
    if kept_header(volume) is None:
        return None
    data = volume.reader.find_metadata(FrameType.DIGEST, DigestScope.SOURCE)
    if data is None:
        return None
    return parse_digest(data, ordinal=DigestScope.SOURCE, offset=0).sha256


def restored_digest(volume: Volume) -> bytes:
    """Return the SHA-256 of the NIfTI image that `volume` restores to (scope 3)."""
    sha256 = hashlib.sha256()
    for _part, data in restore(volume):
        sha256.update(data)
    return sha256.digest()


def verify(
    source: str | os.PathLike[str] | bytes | BinaryIO | Source | Volume,
    *,
    against: str | os.PathLike[str] | ArrayLike | VoxelSource | None = None,
    jobs: int | None = None,
    limits: Limits = DEFAULT_LIMITS,
    progress: Progress | None = None,
) -> VerifyReport:
    """Check every byte of a file, decode all of it, and compare it with a source if one is given.

    Metadata are not compared if the file says that they were cleaned or left out.

    Parameters
    ----------
    source : path, URL, bytes, binary file, Source or Volume
        The packed file.
    against : path, array, nibabel image or VoxelSource, optional
        What it was packed from. Compared only if the file itself is sound.
    jobs : int, optional
        Threads; the processors by default.
    limits : Limits
        What a file may make the reader take.
    progress : callable, optional
        Called as ``progress(step, done, total)``.

    Returns
    -------
    VerifyReport
        What was checked, every problem, and the comparison if there was one.

    Raises
    ------
    MroiError
        If the file cannot even be opened. Damage in chunks and metadata is in the report.
    """
    with ExitStack() as stack:
        volume = _opened(source, limits, stack)
        kept: KeptHeader | None = None
        problem: MroiError | None = None
        try:
            kept = kept_header(volume)
        except MroiError as exc:
            problem = exc
        report = verify_volume(
            volume,
            source_digest=restored_digest if kept is not None else None,
            jobs=jobs,
            progress=progress,
        )
        if problem is not None and report.ok:
            report = replace(report, problems=(problem,))
        if against is None or not report.ok:
            return report
        image = open_input(_at_hand(against, stack), like=series_of(volume), wanted=picked(volume))
        compared = compare(volume, image, progress)
        if "metadata" in volume.provenance:  # cleaned or stripped: it cannot be equal
            compared = replace(compared, same_metadata=True)
        return replace(report, comparison=compared)


def picked(volume: Volume) -> dict[str, int]:
    """Return which volumes of its DICOM series a file holds, empty if all; see `open_input`."""
    found = volume.provenance.get("picked")
    if not isinstance(found, dict):
        return {}
    return {str(name): number for name, number in found.items() if isinstance(number, int)}


def series_of(volume: Volume) -> str:
    """Return the Series Instance UID that a file has, empty if it has none; see `open_input`."""
    from mroi.adapters.dicom import series_uid

    try:
        return series_uid(volume)
    except MroiError:  # damaged, which verifying says
        return ""


def packed_name(source: str | os.PathLike[str]) -> Path:
    """Return the usual name of the packed file: ``scan.nii.gz`` becomes ``scan.mroi``."""
    path = Path(name_of(source)) if is_url(source) else Path(source)
    lower = path.name.lower()
    for ending in sorted((*_NIFTI_ENDINGS, ".dcm", ".dcm.gz"), key=len, reverse=True):
        if lower.endswith(ending):
            return path.with_name(path.name[: -len(ending)] + ".mroi")
    return path.with_name(path.name + ".mroi")


def unpacked_name(source: str | os.PathLike[str], volume: Volume) -> Path:
    """Return the usual name of the restored image: the ending is that of the source."""
    path = Path(name_of(source)) if is_url(source) else Path(source)
    stem = path.name.removesuffix(".mroi")
    ending = "img" if _restores_pair(volume) else "nii"
    if volume.geom.source_kind is SourceKind.DICOM:
        return path.with_name(stem + _INSTANCE_ENDING * _is_instance(volume))
    gz = ".gz" if volume.geom.source_flags & SourceFlags.GZIPPED else ""
    return path.with_name(f"{stem}.{ending}{gz}")
