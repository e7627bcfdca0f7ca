"""What a caller wishes of a packed file: one value, from the command line down to the plan."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypedDict, get_args

import numpy as np
from numpy.typing import NDArray

from mroi.codecs import Codec, Fidelity, Pipeline, parse
from mroi.errors import UsageError
from mroi.geometry import Axis, Box, axis_number
from mroi.volume.chunks import Loss, codec_named
from mroi.volume.layout import ChunkChoice, Cut, Purpose, check_chunk, check_purpose
from mroi.volume.overview import Factor, check_factor

__all__ = [
    "AUTO_MODES",
    "COLOUR_MODES",
    "LOSSY_MODES",
    "BackgroundChoice",
    "CodecChoice",
    "PackOptions",
    "QualityMask",
    "RoiMethod",
    "Target",
    "Wishes",
    "options_with",
]

CodecChoice = str | Codec | Pipeline
"""Name of a codec, with settings or without (``"zstd:level=9"``); a codec; or a pipeline."""
RoiMethod = Literal["auto", "full", "tight", "medroi"]
BackgroundChoice = Literal["exact", "drop"]

AUTO_MODES: dict[str, tuple[str, ...]] = {
    "fast": ("calv", "zstd", "zstd:delta=true"),
    "fastest": ("zstd:level=9", "zstd:level=9,delta=true"),
    "small": ("calv:level=small", "zstd:level=19", "zstd:level=19,delta=true"),
}
"""Candidates of each mode of automatic choice: a plain installation reads all of them.

Those of `fast` are read faster than ``.nii.gz``. Those of `fastest` are read several times faster
still, by every reader, and take a third more bytes.
"""

COLOUR_MODES = AUTO_MODES | {"fast": ("zstd", "zstd:delta=true")}
"""The same for RGB and RGBA: calv decodes samples one after the other, slower than ``.nii.gz``."""

LOSSY_MODES: dict[str, tuple[str, ...]] = {
    "fast": ("calv",),
    "fastest": ("calv",),
    "small": ("calv:level=small", "ebb"),
    "lossy": ("ebb",),
}
"""Candidates of each mode for a largest error: of those that lose something, `calv` alone is read
faster than ``.nii.gz``. Those of `lossy` serve a PSNR and a ratio, too.
"""

_COARSER = 15.0  # dB: the rest beside a quality mask, if nobody says

_MODES: dict[Purpose, str] = {
    "slices": "fast",
    "patches": "fast",
    "planes": "fastest",
    "series": "fast",
    "archive": "small",
}


@dataclass(frozen=True, slots=True)
class Target:
    """What a lossy file shall reach; exactly one is given.

    Attributes
    ----------
    max_error : float, optional
        Largest difference of any voxel of the ROI, in the units of the volume.
    psnr : float, optional
        Least PSNR of the ROI in dB, the peak being the range of its values.
    ratio : float, optional
        Bytes of the voxels of the whole volume, as stored, over bytes of the file: at least.

    Raises
    ------
    UsageError
        If not exactly one is given, or it is not a positive number.
    """

    max_error: float | None = None
    psnr: float | None = None
    ratio: float | None = None

    def __post_init__(self) -> None:
        given = [v for v in (self.max_error, self.psnr, self.ratio) if v is not None]
        if len(given) != 1:
            raise UsageError("give one of max_error, psnr and ratio")
        if not (math.isfinite(given[0]) and given[0] > 0):
            raise UsageError(f"a target of {given[0]}: expected a positive number")

    def is_met(self, loss: Loss, ratio: float, slope: float) -> bool:
        """Whether what was measured is good enough.

        Parameters
        ----------
        loss : Loss
            In stored values.
        ratio : float
            Bytes of the voxels over bytes of the file.
        slope : float
            Of the volume.
        """
        if self.max_error is not None:
            return loss.max_error * abs(slope) <= self.max_error
        if self.psnr is not None:
            return loss.psnr >= self.psnr
        assert self.ratio is not None
        return ratio >= self.ratio

    def margin(self, loss: Loss, ratio: float, slope: float) -> float:
        """Return by how many dB what was measured is better than the target; arguments as above.

        Twice as many bytes, or an error twice as large, count as 6 dB.
        """
        if self.psnr is not None:
            return loss.psnr - self.psnr
        if self.max_error is not None:
            error = loss.max_error * abs(slope)
            return 20 * math.log10(self.max_error / error) if error else math.inf
        assert self.ratio is not None
        return 20 * math.log10(ratio / self.ratio)

    @property
    def wants_small(self) -> bool:
        """Whether coarser settings come closer to the target."""
        return self.ratio is not None


@dataclass(frozen=True, slots=True, eq=False)
class QualityMask:
    """Voxels that a lossy codec shall keep better than the rest.

    Attributes
    ----------
    mask : (x, y, z) array_like
        On the grid of the volume: voxels that are not 0 are meant, in all volumes along further
        axes. Kept as an array of bool.
    psnr : float
        Least PSNR in them in dB, the peak being the range of the values of the ROI.

    Raises
    ------
    UsageError
        If the mask has not three axes, or no voxel, or the PSNR is not a positive number.
    """

    mask: NDArray[Any]
    psnr: float

    def __post_init__(self) -> None:
        mask = np.asarray(self.mask)
        if mask.ndim != 3 or mask.dtype.kind not in "biuf":
            raise UsageError(
                f"a quality mask is a 3-D array of numbers; this is {mask.dtype}, {mask.ndim}-D"
            )
        taken = (mask != 0) & (mask == mask)  # noqa: PLR0124  # NaN is no voxel of it
        if not taken.any():
            raise UsageError("the quality mask is empty: no voxel differs from 0")
        taken.flags.writeable = False
        object.__setattr__(self, "mask", taken)
        if not (math.isfinite(self.psnr) and self.psnr > 0):
            raise UsageError(f"a PSNR of {self.psnr} in a mask: expected a positive number")

    def rest(self, quality: Target | None) -> Target:
        """Return what shall hold of the rest, or of the file."""
        return Target(psnr=max(self.psnr - _COARSER, 1.0)) if quality is None else quality


@dataclass(frozen=True, slots=True, kw_only=True)
class PackOptions:
    """How a volume is packed. What is not said is chosen, and nothing is lost.

    Attributes
    ----------
    purpose : {"slices", "patches", "planes", "series", "archive"}
        What the file is for: chooses chunks and codec, unless they are given. Slices along
        `slice_axis` (or all), patches, slices along all three axes, the fourth axis, or little
        but to be kept. See `mroi.volume.layout.Purpose`.
    codec : str, Codec or Pipeline
        Name and settings, like ``"zstd"`` or ``"zstd:level=9"``. ``"auto:fast"``,
        ``"auto:fastest"`` and ``"auto:small"`` choose a lossless one by trial on the voxels, among
        `AUTO_MODES`; ``"auto"`` is the mode that serves the purpose; ``"auto:lossy"``, with a
        `quality`, is the smallest lossy one. A name gets the exact filters
        that its codec needs for this kind of voxel; a `Pipeline` is taken as it is.
    background_codec : str, Codec or Pipeline
        For voxels outside the ROI, where they are stored; lossless if `background` is "exact".
    roi : Box or {"auto", "full", "tight", "medroi"}
        ``"full"``: the whole volume. ``"tight"``: the smallest box with a constant outside.
        ``"auto"``: the tight box where a trial shows that it saves bytes, else the whole volume.
        ``"medroi"``: the box of the MedROI paper. Or a box, in voxels.
    slice_axis : {0, 1, 2, "x", "y", "z"}
        The axis across which slices are cut.
    chunk : int or sequence of int, optional
        Slices of a chunk, or its voxels along x, y, z, or along x, y, z and axis 3; 0 for a whole
        axis. A writer holds as many volumes of the ROI as a chunk spans. By default
        `mroi.volume.layout.default_shape` says.
    background : {"exact", "drop"}
        What becomes of voxels outside the ROI: kept bit for bit, or replaced by zero.
    quality : Target, optional
        A largest error, a PSNR or a ratio that a lossy `codec` shall reach; its setting is found by
        trial. The codec is then a name, with no settings but those of the encoder alone
        (``"calv:level=small"``). For a largest error ``"auto"`` chooses it, too, among
        `LOSSY_MODES`.
    quality_mask : QualityMask, optional
        Voxels to be kept better than the rest, by a codec that can (``"ebb"``). `quality` then is
        a PSNR of the rest, 15 dB less than that of the mask by default, or the ratio of the file.
    overview : int or tuple of 3 int, optional
        Write the first 3-D volume at a resolution reduced by this factor (1, 2, 4, 8 or 16, along
        all axes or along x, y, z), too: viewers show it at once. 0 for none; by default 4 for the
        purpose ``"planes"``, which is that of viewers, else none.

    Raises
    ------
    UsageError
        For a choice that no volume could make right.
    CodecUnavailableError, CodecError
        If there is no such codec, or it has no such setting.

    Examples
    --------
    >>> from dataclasses import replace
    >>> options = PackOptions(purpose="patches", codec="zstd")
    >>> replace(options, roi="full").roi
    'full'
    """

    purpose: Purpose = "slices"
    codec: CodecChoice = "auto"
    background_codec: CodecChoice = "zstd:level=9"
    roi: RoiMethod | Box = "auto"
    slice_axis: Axis = 2
    chunk: ChunkChoice = None
    background: BackgroundChoice = "exact"
    quality: Target | None = None
    quality_mask: QualityMask | None = None
    overview: int | Factor | None = None

    def __post_init__(self) -> None:
        check_purpose(self.purpose)
        check_chunk(self.chunk)
        if isinstance(self.chunk, Sequence):  # a list would change under our hands
            object.__setattr__(self, "chunk", tuple(map(int, self.chunk)))
        object.__setattr__(self, "slice_axis", axis_number(self.slice_axis))
        if not isinstance(self.roi, Box) and self.roi not in get_args(RoiMethod):
            raise UsageError(
                f"ROI {self.roi!r}: expected 'auto', 'full', 'tight', 'medroi' or a box"
            )
        if self.background not in get_args(BackgroundChoice):
            raise UsageError(f"background {self.background!r}: expected 'exact' or 'drop'")
        is_exact = self.background_pipeline.fidelity is Fidelity.LOSSLESS
        if self.background == "exact" and not is_exact:
            raise UsageError("an exact background needs a lossless codec")
        if self.overview not in (None, 0):
            check_factor(self.overview)
        self._check_codec()

    def _check_codec(self) -> None:
        is_name = isinstance(self.codec, str) and self.mode is None
        if isinstance(self.codec, str) and is_name:
            parse(self.codec)
        if self.quality_mask is not None:
            self._check_mask(self.quality_mask)
        elif self.quality is None:
            if self.mode == "lossy":
                raise UsageError("auto:lossy needs a largest error, a PSNR or a ratio to reach")
            return
        if self.mode == "lossy":
            return
        if self.mode and self.quality is not None and self.quality.max_error is not None:
            return
        if not is_name or _says_loss(str(self.codec)):
            raise UsageError(
                "a largest error, PSNR, ratio or quality mask chooses the settings of a lossy "
                "codec: name one without settings, like ebb"
            )

    def _check_mask(self, mask: QualityMask) -> None:
        rest = mask.rest(self.quality)
        if rest.max_error is not None:
            raise UsageError("a quality mask goes with a PSNR or a ratio, not with a largest error")
        if rest.psnr is not None and not rest.psnr < mask.psnr:
            raise UsageError(
                f"the PSNR of the rest, {rest.psnr:g} dB, has to be less than that of the quality "
                f"mask, {mask.psnr:g} dB"
            )

    @property
    def mode(self) -> str | None:
        """Mode of automatic choice, in `AUTO_MODES` or `LOSSY_MODES`; None if a codec is given."""
        if not isinstance(self.codec, str) or self.codec.partition(":")[0] != "auto":
            return None
        mode = self.codec.partition(":")[2] or _MODES[self.purpose]
        if mode not in LOSSY_MODES:
            modes = ", ".join(f"auto:{name}" for name in LOSSY_MODES)
            raise UsageError(f"codec {self.codec!r}: expected auto, {modes}")
        return mode

    @property
    def may_lose(self) -> bool:
        """Whether the codec of the ROI may lose something."""
        if self.quality is not None or self.quality_mask is not None:
            return True
        return self.mode is None and codec_named(self.codec).fidelity is not Fidelity.LOSSLESS

    @property
    def cut(self) -> Cut:
        """How the volume is to be cut into chunks."""
        return Cut(self.purpose, self.chunk, axis_number(self.slice_axis))

    @property
    def background_pipeline(self) -> Pipeline:
        """What encodes voxels outside the ROI, where they are stored."""
        return codec_named(self.background_codec)


def _says_loss(text: str) -> bool:
    """Whether a codec is given a setting beside those of its encoder."""
    codec = parse(text)
    named = {item.partition("=")[0].strip() for item in text.partition(":")[2].split(",")}
    return not named - {""} <= codec.settings().keys()


class Wishes(TypedDict, total=False):
    """The fields of `PackOptions` as keywords, for functions that take them one by one."""

    purpose: Purpose
    codec: CodecChoice
    background_codec: CodecChoice
    roi: RoiMethod | Box
    slice_axis: Axis
    chunk: ChunkChoice
    background: BackgroundChoice
    quality: Target | None
    quality_mask: QualityMask | None
    overview: int | Factor | None


def options_with(options: PackOptions | None, wishes: Wishes) -> PackOptions:
    """Return options, the default ones if there are none, with wishes in place of their fields.

    Raises
    ------
    UsageError
        If a wish has no such name, or no volume could make it right.
    """
    unknown = wishes.keys() - Wishes.__annotations__.keys()
    if unknown:
        raise UsageError(
            f"{min(unknown)!r} is not an option; expected one of "
            f"{', '.join(Wishes.__annotations__)}"
        )
    return PackOptions(**wishes) if options is None else replace(options, **wishes)
