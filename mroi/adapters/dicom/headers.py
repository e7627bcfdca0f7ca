"""From a DICOM header to the frames it describes: single-frame, mosaic and multi-frame."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mroi.adapters.dicom.csa import parse_csa
from mroi.adapters.dicom.modality import has_table, line_of_table
from mroi.adapters.dicom.part10 import PixelElement, byte_order
from mroi.adapters.dicom.stack import VOLUME_KEYS, Frame, Plane, Value
from mroi.adapters.dicom.stored import Form, form_of
from mroi.errors import SourceError

__all__ = ["Pixels", "describe", "frames_of", "is_turned_by_dcm2niix"]

MAX_FRAMES = 1_000_000
MAX_FRAME_SIZE = 2**31
_CSA_CREATOR = "SIEMENS CSA HEADER"


@dataclass(frozen=True, slots=True)
class Pixels:
    """How the pixels of one instance are stored.

    Attributes
    ----------
    kind : str
        ``classic``, ``mosaic``, ``enhanced`` (several frames) or ``image`` (no position).
    rows, columns, samples : int
        Of a frame; for a mosaic, of a tile.
    frame_count : int
        Frames, or tiles that hold a slice.
    dtype : str
        Like ``u2``, without byte order.
    bits_stored : int
        Significant bits.
    photometric : str
        DICOM Photometric Interpretation.
    form : Form
        How samples are stored, if they are not compressed.
    """

    kind: str
    rows: int
    columns: int
    samples: int
    frame_count: int
    dtype: str
    bits_stored: int
    photometric: str
    form: Form

    @property
    def frame_size(self) -> int:
        """Bytes of a decoded frame or tile."""
        return self.rows * self.columns * self.samples * np.dtype(self.dtype).itemsize

    @property
    def sample_count(self) -> int:
        """Samples of the uncompressed value, unused tiles of a mosaic included."""
        count = self.frame_count
        if self.kind == "mosaic":
            count = (math.isqrt(count - 1) + 1) ** 2
        return self.rows * self.columns * self.samples * count

    @property
    def size(self) -> int:
        """Bytes of the uncompressed value without padding."""
        return self.form.size(self.sample_count)

    @property
    def is_split(self) -> bool:
        """Whether colours become an axis of the volume: there is no type for such samples."""
        return self.samples > 1 and self.dtype != "u1"


def describe(dataset: Any, element: PixelElement, name: str) -> Pixels:
    """Return how the pixels of an instance are stored.

    Parameters
    ----------
    dataset : pydicom.Dataset
        The instance.
    element : PixelElement
        Its pixel data.
    name : str
        What messages call it.

    Raises
    ------
    SourceError
        If the header is incomplete, or the pixels are of a kind that cannot be kept exactly.
    """
    samples = _integer(dataset, "SamplesPerPixel", name, 1)
    bits = _integer(dataset, "BitsAllocated", name)
    signed = _integer(dataset, "PixelRepresentation", name, 0)
    kind, rows, columns, count = _layout(dataset, name)
    number = "f" if element.keyword != "PixelData" else "i" if signed else "u"
    pixels = Pixels(
        kind=kind,
        rows=rows,
        columns=columns,
        samples=samples,
        frame_count=count,
        dtype=f"{number}{max(bits // 8, 1)}",
        bits_stored=_integer(dataset, "BitsStored", name, bits),
        photometric=str(dataset.get("PhotometricInterpretation", "")),
        form=form_of(dataset, element.vr, byte_order(dataset)),
    )
    reason = _why_not(pixels, element, bits)
    if reason:
        raise SourceError(f"{name}: {reason}")
    return pixels


def _layout(dataset: Any, name: str) -> tuple[str, int, int, int]:
    """Return the kind, the rows and columns of a frame, and the number of frames."""
    rows, columns = _integer(dataset, "Rows", name), _integer(dataset, "Columns", name)
    count = _integer(dataset, "NumberOfFrames", name, 1) or 1
    if not (rows and columns) or not 0 < count <= MAX_FRAMES:
        raise SourceError(f"{name}: header states {count} frames of {rows} x {columns} pixels")
    if count > 1 or "PerFrameFunctionalGroupsSequence" in dataset:
        return "enhanced", rows, columns, count
    tiles = _tile_count(dataset, name)
    if tiles:
        side = math.isqrt(tiles - 1) + 1
        if rows % side or columns % side:
            raise SourceError(f"{name}: {tiles} tiles do not fit {rows} x {columns} pixels")
        return "mosaic", rows // side, columns // side, tiles
    return "classic" if dataset.get("ImagePositionPatient") else "image", rows, columns, 1


def _why_not(pixels: Pixels, element: PixelElement, bits: int) -> str | None:
    """Return why pixels cannot be kept as they are, or None."""
    allowed = {"PixelData": (1, 8, 16, 32), "FloatPixelData": (32,), "DoubleFloatPixelData": (64,)}
    held = element.stop - element.start
    reason = None
    if bits not in allowed[element.keyword] or not 0 < pixels.bits_stored <= bits:
        reason = f"{pixels.bits_stored} of {bits} bits a sample are not supported"
    elif pixels.samples not in (1, 3) or (pixels.samples == 3 and bits == 1):
        reason = f"{pixels.samples} samples of {bits} bits a pixel are not supported"
    elif pixels.samples != 1 and pixels.kind == "mosaic":
        reason = "mosaics in colour are not supported"
    elif pixels.frame_size > MAX_FRAME_SIZE:
        reason = f"frames of {pixels.frame_size:,} bytes are not supported"
    elif element.encapsulated:
        if held < 8 * pixels.frame_count:
            reason = f"{held:,} bytes are too few for {pixels.frame_count} frames"
    elif pixels.photometric == "YBR_PARTIAL_420" or (
        pixels.form.is_shared and (pixels.columns % 2 or bits != 8)
    ):
        reason = (
            f"subsampled colours ({pixels.photometric}) of {bits} bits in rows of "
            f"{pixels.columns} pixels are not supported"
        )
    elif held < pixels.size:
        reason = f"{held:,} bytes of pixels, the header promises {pixels.size:,}"
    return reason


def frames_of(dataset: Any, pixels: Pixels, instance: int, name: str) -> Iterator[Frame]:
    """Yield the frames of one instance in the order in which they are stored.

    Parameters
    ----------
    dataset : pydicom.Dataset
        The instance.
    pixels : Pixels
        How its pixels are stored.
    instance : int
        Number of the instance in the series.
    name : str
        What messages call it.

    Raises
    ------
    SourceError
        If the offsets of the frames do not fit the pixel data.
    """
    if pixels.kind == "mosaic":
        yield from _tiles(dataset, pixels, instance, name)
        return
    groups = dataset.get("PerFrameFunctionalGroupsSequence") or ()
    if groups and len(groups) < pixels.frame_count:
        raise SourceError(
            f"{name}: {len(groups)} functional groups for {pixels.frame_count} frames"
        )
    if len(groups) > pixels.frame_count:
        groups = ()  # frames were taken out: which groups are left over is not known
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [None])[0]
    offsets = _numbers(dataset, "GridFrameOffsetVector", name)
    line, is_table = _table(dataset, pixels)
    for number in range(pixels.frame_count):
        sources = _Attributes(dataset, shared, groups[number] if groups else None, name)
        plane = sources.plane()
        if offsets and plane is not None and pixels.frame_count > 1:
            if len(offsets) != pixels.frame_count:
                raise SourceError(f"{name}: {len(offsets)} offsets for {pixels.frame_count} frames")
            plane = Plane(
                plane.along_row,
                plane.along_column,
                plane.position + plane.normal * (offsets[number] - offsets[0]),
            )
        elif not groups and pixels.frame_count > 1:
            plane = None  # one position for many frames says nothing of where they are
        yield Frame(
            instance=instance,
            number=number,
            name=name if pixels.frame_count == 1 else f"{name} frame {number + 1}",
            plane=plane,
            spacing=sources.spacing(),
            thickness=sources.thickness(),
            rescale=line or sources.rescale(),
            keys={**sources.keys(), "FrameNumber": float(number)},
            period=sources.period(),
            has_table=is_table,
            place=sources.place() if groups or pixels.frame_count == 1 else None,
        )


def _table(dataset: Any, pixels: Pixels) -> tuple[tuple[float, float] | None, bool]:
    """Return slope and intercept of a Modality LUT, and whether it has none, being no line."""
    if not has_table(dataset):
        return None, False
    signed = pixels.dtype.startswith("i")
    line = line_of_table(dataset, pixels.bits_stored, signed=signed)
    return line or (1.0, 0.0), line is None


def is_turned_by_dcm2niix(dataset: Any) -> bool:
    """Whether it is a 3-D acquisition, other than an echo-planar one."""
    sequence = str(dataset.get("ScanningSequence") or "")
    return str(dataset.get("MRAcquisitionType") or "").strip() == "3D" and "EP" not in sequence


def _tiles(dataset: Any, pixels: Pixels, instance: int, name: str) -> Iterator[Frame]:
    sources = _Attributes(dataset, None, None, name)
    plane = sources.plane()
    if plane is None:
        raise SourceError(f"{name}: the mosaic has no position")
    across, down = sources.spacing()
    side = math.isqrt(pixels.frame_count - 1) + 1
    # The position in the header is that of an image as large as the whole mosaic, centred alike.
    corner = (
        plane.position
        + plane.along_row * across * (pixels.columns * (side - 1) / 2)
        + plane.along_column * down * (pixels.rows * (side - 1) / 2)
    )
    normal = plane.normal
    said = _csa(dataset).get("SliceNormalVector", ())
    against = len(said) == 3 and bool(_vector(said, name) @ normal < 0)
    if against:
        normal = -normal
    distance = sources.thickness() or 1.0
    line, is_table = _table(dataset, pixels)
    for number in range(pixels.frame_count):
        yield Frame(
            instance=instance,
            number=number,
            name=f"{name} tile {number + 1}",
            plane=Plane(plane.along_row, plane.along_column, corner + normal * distance * number),
            spacing=(across, down),
            thickness=distance,
            rescale=line or sources.rescale(),
            keys=sources.keys(),
            against=against,
            period=sources.period(),
            has_table=is_table,
        )


class _Attributes:
    """Looks attributes up where they may be: in the functional groups of a frame, or at the top."""

    def __init__(self, dataset: Any, shared: Any, own: Any, name: str) -> None:
        self._dataset = dataset
        self._groups = [group for group in (own, shared) if group is not None]
        self._name = name

    def _where(self, sequence: str, keyword: str) -> Any:
        """Return the dataset that has an attribute, or None."""
        for group in self._groups:
            items = group.get(sequence)
            if items and keyword in items[0]:
                return items[0]
        return self._dataset if keyword in self._dataset else None

    def _numbers(self, sequence: str, keyword: str) -> tuple[float, ...]:
        source = self._where(sequence, keyword)
        return () if source is None else _numbers(source, keyword, self._name)

    def plane(self) -> Plane | None:
        position = self._numbers("PlanePositionSequence", "ImagePositionPatient")
        cosines = self._numbers("PlaneOrientationSequence", "ImageOrientationPatient")
        if len(position) not in (0, 3) or len(cosines) not in (0, 6):
            raise SourceError(f"{self._name}: invalid position {position} or orientation {cosines}")
        if not (position and cosines):
            return None
        row, column = np.array(cosines[:3]), np.array(cosines[3:])
        lengths = np.linalg.norm(row), np.linalg.norm(column)
        if max(abs(lengths[0] - 1), abs(lengths[1] - 1), abs(row @ column)) > 0.01:
            raise SourceError(f"{self._name}: orientation {cosines} is not orthonormal")
        return Plane(row / lengths[0], column / lengths[1], np.array(position))

    def place(self) -> Any:
        """Return the position of a frame whose orientation is not known, or None."""
        position = self._numbers("PlanePositionSequence", "ImagePositionPatient")
        cosines = self._numbers("PlaneOrientationSequence", "ImageOrientationPatient")
        return np.array(position) if position and not cosines else None

    def spacing(self) -> tuple[float, float]:
        for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
            found = self._numbers("PixelMeasuresSequence", keyword)
            if found:
                if len(found) != 2 or min(found) <= 0:
                    raise SourceError(f"{self._name}: {keyword} is {found}")
                return found[1], found[0]
        return 1.0, 1.0

    def thickness(self) -> float | None:
        for keyword in ("SpacingBetweenSlices", "SliceThickness"):
            found = self._numbers("PixelMeasuresSequence", keyword)
            if found and found[0] > 0:
                return found[0]
        return None

    def period(self) -> float:
        """Return the time between volumes, s; 0 if the header does not say it.

        It is the repetition time of slices that are excited one by one, not that of a 3-D
        acquisition, which takes many repetitions for a volume.
        """
        keywords = ["TemporalResolution"]
        if str(self._dataset.get("MRAcquisitionType") or "").strip() != "3D":
            keywords.append("RepetitionTime")
        for keyword in keywords:
            found = self._numbers("MRTimingAndRelatedParametersSequence", keyword)
            if found and found[0] > 0:
                return found[0] / 1000
        return 0.0

    def rescale(self) -> tuple[float, float]:
        slope = self._numbers("PixelValueTransformationSequence", "RescaleSlope")
        inter = self._numbers("PixelValueTransformationSequence", "RescaleIntercept")
        if slope and slope[0] == 0:
            raise SourceError(f"{self._name}: RescaleSlope is 0")
        return (slope or (1.0,))[0], (inter or (0.0,))[0]

    def keys(self) -> Mapping[str, Value]:
        sequences = {
            "EffectiveEchoTime": "MREchoSequence",
            "DiffusionBValue": "MRDiffusionSequence",
            "NominalCardiacTriggerDelayTime": "CardiacSynchronizationSequence",
        }
        keys: dict[str, Value] = {}
        for keyword in VOLUME_KEYS[:-1]:  # the last, FrameNumber, is ours
            source = self._where(sequences.get(keyword, "FrameContentSequence"), keyword)
            value = None if source is None else source.get(keyword)
            if keyword == "DimensionIndexValues" and value not in (None, ""):
                several = value if isinstance(value, Sequence) else [value]
                keys[keyword] = tuple(int(index) for index in several)
                continue
            if value is None or value == "" or not isinstance(value, (int, float, str)):
                continue
            keys[keyword] = str(value) if isinstance(value, str) else float(value)
        return keys


def _integer(dataset: Any, keyword: str, name: str, default: int | None = None) -> int:
    value = dataset.get(keyword)
    if value is None or value == "":
        if default is None:
            raise SourceError(f"{name}: {keyword} is missing")
        return default
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError) as exc:
        raise SourceError(f"{name}: {keyword} is {value!r}") from exc


def _numbers(dataset: Any, keyword: str, name: str) -> tuple[float, ...]:
    """Return the finite numbers of an attribute; none if it is absent or empty."""
    value = dataset.get(keyword)
    if value is None or value == "":
        return ()
    values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    return tuple(_vector(values, f"{name}: {keyword}").tolist())


def _vector(values: Sequence[Any], name: str) -> Any:
    try:
        numbers = np.array([float(value) for value in values])
    except (TypeError, ValueError, OverflowError) as exc:
        raise SourceError(f"{name} is {list(values)!r}") from exc
    if not np.isfinite(numbers).all():
        raise SourceError(f"{name} is {list(values)!r}")
    return numbers


def _tile_count(dataset: Any, name: str) -> int:
    """Return the number of slices in a mosaic, 0 for an image that is none."""
    if "MOSAIC" not in (dataset.get("ImageType") or ()):
        return 0
    said = _csa(dataset).get("NumberOfImagesInMosaic") or ()
    if not said and (0x0019, 0x100A) in dataset:
        said = (str(dataset[0x0019, 0x100A].value),)
    if not said:
        raise SourceError(f"{name}: the mosaic does not state how many slices it has")
    count = int(_vector(said[:1], "NumberOfImagesInMosaic")[0])
    if not 0 < count <= 10_000:
        raise SourceError(f"NumberOfImagesInMosaic is {count}")
    return count


def _csa(dataset: Any) -> dict[str, tuple[str, ...]]:
    for block in range(0x10, 0x100):
        creator = dataset.get((0x0029, block))
        if creator is not None and str(creator.value).strip() == _CSA_CREATOR:
            element = dataset.get((0x0029, block << 8 | 0x10))
            if element is not None and isinstance(element.value, bytes):
                return parse_csa(element.value)
    return {}
