"""SirenMRI: a chunk as a small network that gives its voxels; made by fitting, slowly."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer, override

from mroi.codecs import fields, native
from mroi.codecs.base import ChunkSpec, Codec, Fidelity, Values
from mroi.codecs.neural.device import check_device, device_of
from mroi.errors import CodecError, DecodeError

if TYPE_CHECKING:
    from mroi.codecs.neural.fitting import Effort
    from mroi.codecs.neural.sine import Shape, Sine

__all__ = ["SirenMri"]

_RATES = (1e-4, 8.0)
_WIDTHS = (4, 512)
_DTYPES = {np.dtype(name) for name in ("u1", "i1", "<u2", "<i2")}


@dataclass(frozen=True, slots=True)
class SirenMri(Codec):
    """Chunks of 8- and 16-bit integers as networks of sines: for very few bytes, and previews.

    Parameters
    ----------
    rate : float
        Bits for each voxel, from which the width of the network follows.
    width : int or None
        Sines of a layer, 4 to 512, instead of what follows from the rate.
    layers : int
        Layers of sines, 1 to 8.
    bits : int
        Bits of a weight, 4 to 12.
    steps : int
        Steps of the fit, of 8192 voxels each.
    seconds : float or None
        Time for the fit of a chunk, instead of steps.
    psnr : float or None
        The fit ends early where it has reached this, in dB.
    frequency : float
        Of the first layer: more for more detail, from a fit that is longer.
    seed : int
        Of the first weights and of the voxels of each step.
    device : str
        Where it is fitted: "cpu", "cuda", or "auto", a GPU if there is one.
    """

    name: ClassVar[str] = "sirenmri"
    id: ClassVar[int] = 17
    isolated: ClassVar[bool] = False
    encoder_only: ClassVar[tuple[str, ...]] = (
        *("rate", "width", "layers", "bits", "steps", "seconds", "psnr", "frequency", "seed"),
        "device",
    )

    rate: float = 0.1
    width: int | None = None
    layers: int = 3
    bits: int = 8
    steps: int = 2000
    seconds: float | None = None
    psnr: float | None = None
    frequency: float = 30.0
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        fields.number("sirenmri: rate", self.rate, *_RATES)
        if self.width is not None:
            fields.integer("sirenmri: width", self.width, *_WIDTHS)
        fields.integer("sirenmri: layers", self.layers, 1, 8)
        fields.integer("sirenmri: bits", self.bits, 4, 12)
        fields.integer("sirenmri: steps", self.steps, 4, 10**7)
        if self.seconds is not None:
            fields.number("sirenmri: seconds", self.seconds, 0.1, 1e6)
        if self.psnr is not None:
            fields.number("sirenmri: psnr", self.psnr, 1, 100)
        fields.number("sirenmri: frequency", self.frequency, 0.1, 1000)
        fields.integer("sirenmri: seed", self.seed, 0, 2**31 - 1)
        check_device("sirenmri", self.device)

    @property
    @override
    def default_slices(self) -> int:
        return 1 << 16  # all there are: what the network knows of a slice, it knows of others

    @property
    @override
    def span_voxels(self) -> int:
        return 1  # several volumes are one chunk where the user says so: trials take too long

    @property
    @override
    def fidelity(self) -> Fidelity:
        return Fidelity.LOSSY

    @property
    @override
    def deterministic(self) -> bool:
        return True  # it is evaluated in integers

    @override
    @classmethod
    def implementation(cls) -> str:
        absent = native.find_absent("neural", "torch")
        return f"mroi sirenmri, for reading; writing {absent}" if absent else "mroi sirenmri"

    @classmethod
    def ladder(cls, _: Values, /) -> list[Self]:
        """Return rates from 4 bits a voxel to a 256th."""
        return [cls(4 / 2 ** (k / 2)) for k in range(21)]

    @override
    def refuses(self, spec: ChunkSpec) -> str | None:
        if spec.dtype not in _DTYPES or spec.samples > 1:
            return f"sirenmri takes integers of 8 and 16 bits, one sample a voxel, not {spec.voxel}"
        return None

    @override
    def encode_seconds(self, spec: ChunkSpec) -> float:
        if native.find_absent("neural", "torch"):
            return 0.0
        from mroi.codecs.neural.fitting import seconds_for

        points = _points(spec)
        return seconds_for(self._shape(spec), self._effort, points)

    @override
    def encode(self, chunk: NDArray[Any], spec: ChunkSpec, /) -> bytes:
        native.load("torch", "neural")
        from mroi.codecs.neural.fitting import fit
        from mroi.codecs.neural.sine import Sine

        shape = self._shape(spec)
        extent = _extent(spec)
        voxels = chunk.reshape(spec.volumes, *extent)
        low, high = float(chunk.min()), float(chunk.max())
        network, _ = fit(voxels, shape, self._effort, low, high)
        written, _ = Sine.from_bytes(memoryview(network.to_bytes(0)), spec.volumes)
        decoded = written.evaluate(extent, 0, extent[0], spec.dtype)
        payload = network.to_bytes(zlib.crc32(decoded.tobytes()))
        if len(payload) > 2 * spec.size + (1 << 15):
            raise CodecError(
                f"sirenmri: {shape.weights:,} weights are more than the chunk is worth"
            )
        return payload

    @override
    def decode(self, payload: Buffer, spec: ChunkSpec, /) -> NDArray[Any]:
        network, crc = _network(payload, spec)
        extent = _extent(spec)
        decoded = network.evaluate(extent, 0, extent[0], spec.dtype)
        if zlib.crc32(decoded.tobytes()) != crc:
            raise DecodeError("sirenmri: the voxels are not those that were written", "CHK-8")
        return decoded.reshape(spec.shape)

    def decode_range(
        self, payload: Buffer, spec: ChunkSpec, start: int, stop: int, /
    ) -> NDArray[Any]:
        """Return some slices; the network is evaluated there alone."""
        network, _ = _network(payload, spec)
        extent = _extent(spec)
        first, last = start // extent[0], (stop - 1) // extent[0]
        if first != last:
            return self.decode(payload, spec)[start:stop]
        inside = start - first * extent[0], stop - first * extent[0]
        part: NDArray[Any] = network.evaluate(extent, *inside, spec.dtype)[first]
        return part

    @property
    def _effort(self) -> Effort:
        from mroi.codecs.neural.fitting import Effort

        return Effort(
            self.bits,
            self.steps,
            self.seconds,
            self.psnr,
            self.frequency,
            self.seed,
            device_of(self.device),
        )

    def _shape(self, spec: ChunkSpec) -> Shape:
        """Return the widest network that the rate allows."""
        from mroi.codecs.neural.sine import Shape

        if self.width is not None:
            return Shape(self.layers, self.width, spec.volumes)
        budget = self.rate * _points(spec) * spec.volumes
        low, high = _WIDTHS
        while low < high:
            middle = (low + high + 1) // 2
            if Shape(self.layers, middle, spec.volumes).weights * self.bits <= budget:
                low = middle
            else:
                high = middle - 1
        return Shape(self.layers, low, spec.volumes)


def _extent(spec: ChunkSpec) -> tuple[int, int, int]:
    slices, rows, columns = spec.shape
    return slices // spec.volumes, rows, columns


def _points(spec: ChunkSpec) -> int:
    slices, rows, columns = _extent(spec)
    return slices * rows * columns


def _network(payload: Buffer, spec: ChunkSpec) -> tuple[Sine, int]:
    from mroi.codecs.neural.sine import Sine

    try:
        return Sine.from_bytes(memoryview(payload).cast("B"), spec.volumes)
    except ValueError as exc:
        raise DecodeError(f"sirenmri: {exc}", "CHK-8") from exc
