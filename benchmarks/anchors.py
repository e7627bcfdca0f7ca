"""Lossy codecs by their settings: ours, and to compare with x265, SVT-AV1, SPERR and SZ3.

Each turns a volume and a setting into bytes, which are decoded again. Ours make whole files, the
others bare streams; none of those is or becomes a dependency. The video codecs get
slices along z as frames, from the least value of the volume to its largest, on one thread: x265
(preset slower, tuned for PSNR, 12 bits, no second key frame, without the text about itself) and
SVT-AV1 (preset 4, tuned for PSNR, 10 bits, which are its most). SPERR and SZ3 get the volume as
one chunk of float32. PyAV brings the first two, x265 under the GPL; imagecodecs the others.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["ANCHORS", "OURS", "Anchor", "code_ours"]

os.environ.setdefault("SVT_LOG", "1")  # errors alone

_BLOCK = 64  # pixels: x265 crashes where frames are smaller

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Anchor:
    """A codec to compare with.

    Attributes
    ----------
    name : str
        In tables.
    fine, coarse : float
        Bounds of its setting. Beyond 46, x265 codes frames of 12 bits that are not what was given.
    code : callable or str
        From a volume (x, y, z), float32 in C order, and a setting to the size of the stream, and
        what is decoded from it; or what `mroi.pack` takes, with the setting in it.
    unit : float
        Settings are multiples of it.
    is_log : bool
        Whether PSNR goes with the logarithm of the setting.
    chunk : int, optional
        Of ours: slices of a chunk, 0 for all, if not as usual.
    """

    name: str
    fine: float
    coarse: float
    code: Callable[[Array, float], tuple[int, Array]] | str
    unit: float = 0.01
    is_log: bool = False
    chunk: int | None = None

    def place(self, setting: float) -> float:
        """Return a number that PSNR is nearly linear in."""
        return math.log(setting) if self.is_log else setting

    def setting(self, place: float) -> float:
        """Return the setting at a number that `place` gives, within the bounds."""
        low, high = sorted((self.fine, self.coarse))
        value = math.exp(place) if self.is_log else round(place / self.unit) * self.unit
        return min(max(value, low), high)


@dataclass(frozen=True)
class Video:
    """A video codec, whose frames are slices.

    Attributes
    ----------
    encoder, decoder : str
        As FFmpeg calls them.
    pixels : str
        Format of its frames.
    bits : int
        Of a sample.
    options : dict of str
        Of the encoder; ``{crf}`` stands for the setting.
    """

    encoder: str
    decoder: str
    pixels: str
    bits: int
    options: dict[str, str]

    def code(self, volume: Array, setting: float) -> tuple[int, Array]:
        """Code a volume, padded to even sides of at least a block, and decode it."""
        low, high = float(volume.min()), float(volume.max())
        scale = ((1 << self.bits) - 1) / max(high - low, 1e-30)
        frames = np.rint((volume - low) * scale).astype("<u2")
        pads = [(0, max(_BLOCK - n, n % 2)) for n in frames.shape[:2]]
        packets = self._encode(np.pad(frames, [*pads, (0, 0)], mode="edge"), setting)
        rows, columns, _ = frames.shape
        back = self._decode(packets)[:rows, :columns]
        return sum(map(len, packets)), back.astype(np.float64) / scale + low

    def _encode(self, frames: Array, setting: float) -> list[bytes]:
        import av

        context = av.CodecContext.create(self.encoder, "w")
        context.width, context.height, context.pix_fmt = *frames.shape[:2], self.pixels
        context.framerate = 25
        context.options = {
            name: value.format(crf=f"{setting:.2f}") for name, value in self.options.items()
        }
        packets = []
        for k in range(frames.shape[2]):
            frame = av.VideoFrame(*frames.shape[:2], self.pixels)
            frame.pts = k
            for number, plane in enumerate(frame.planes):
                rows = np.full((plane.height, plane.line_size // 2), 1 << (self.bits - 1), "<u2")
                if number == 0:
                    rows[:, : plane.width] = frames[:, :, k].T
                plane.update(rows.tobytes())
            packets += [bytes(packet) for packet in context.encode(frame)]
        return packets + [bytes(packet) for packet in context.encode(None)]

    def _decode(self, packets: Sequence[bytes]) -> Array:
        """Return the luma of frames, (x, y, z)."""
        import av

        context = av.CodecContext.create(self.decoder, "r")
        planes = []
        for data in [*packets, None]:
            for frame in context.decode(None if data is None else av.Packet(data)):
                luma = frame.planes[0]
                rows = np.frombuffer(luma, "<u2").reshape(luma.height, luma.line_size // 2)
                planes.append(rows[:, : luma.width].T.copy())
        return np.stack(planes, axis=2)  # decoders give frames in the order in which they are shown


def sperr(volume: Array, psnr: float) -> tuple[int, Array]:
    """Code with SPERR, by the PSNR that it aims at."""
    import imagecodecs

    data = imagecodecs.sperr_encode(volume, psnr, "psnr", chunks=volume.shape)
    return len(data), imagecodecs.sperr_decode(data).reshape(volume.shape)


def sz3(volume: Array, share: float) -> tuple[int, Array]:
    """Code with SZ3, by a bound on the error, as a share of the range."""
    import imagecodecs

    data = imagecodecs.sz3_encode(volume, "abs", abs=share * float(np.ptp(volume)))
    return len(data), imagecodecs.sz3_decode(data, shape=volume.shape, dtype=volume.dtype)


def code_ours(path: Path, roi: str, anchor: Anchor, setting: float) -> tuple[int, Array]:
    """Pack a volume, and return the size of the file and what the ROI is decoded to.

    The setting is a share of the range of values where the text says so.
    """
    import mroi

    file, text = io.BytesIO(), str(anchor.code)
    if "{step" in text:
        import nibabel as nib

        setting *= float(np.ptp(np.asarray(nib.load(path).dataobj.get_unscaled())))
    codec = text.format(setting, step=setting)
    mroi.pack(path, file, codec=codec, roi=roi, chunk=anchor.chunk)
    with mroi.open(file) as volume:
        return file.getbuffer().nbytes, np.asarray(volume.cropped)


X265 = Video("libx265", "hevc", "gray12le", 12, {
    "preset": "slower", "tune": "psnr",
    "x265-params": "crf={crf}:keyint=-1:pools=none:frame-threads=1:info=0:log-level=none",
})  # fmt: skip
SVT_AV1 = Video("libsvtav1", "libdav1d", "yuv420p10le", 10, {
    "preset": "4", "svtav1-params": "crf={crf}:tune=1:lp=1:keyint=-1",
})  # fmt: skip

OURS = (
    Anchor("ebb", 1e-3, 0.8, "ebb:step={step:.4g}", is_log=True),
    Anchor("ebb, one chunk", 1e-3, 0.8, "ebb:step={step:.4g}", is_log=True, chunk=0),
    Anchor("wavelet3d", 1e-3, 0.8, "wavelet3d:step={step:.4g}", is_log=True),
    Anchor("jpeg2000-3d", 90.0, 15.0, "jpeg2000-3d:psnr={:.2f}"),
    Anchor("jpeg2000", 90.0, 15.0, "jpeg2000:psnr={:.2f}"),
    Anchor("jpegxl", 0.05, 25.0, "jpegxl:distance={:.3f}", is_log=True),
    Anchor("htj2k", 1e-3, 0.8, "htj2k:step={step:.4g}", is_log=True),
    Anchor("heif", 100.0, 1.0, "heif:quality={:.0f}", unit=1.0),
)
ANCHORS = (
    Anchor("x265", -10.0, 46.0, X265.code),
    Anchor("SVT-AV1", 1.0, 70.0, SVT_AV1.code, unit=0.25),
    Anchor("SPERR", 100.0, 1.0, sperr),
    Anchor("SZ3", 1e-5, 0.6, sz3, is_log=True),
)
