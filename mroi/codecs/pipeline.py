"""Filters, then a codec, and back: what turns the chunks of one file into payloads.

Codecs are trusted with nothing: whatever one of them raises or returns, a caller of `Pipeline`
sees a chunk of the right kind or an `MroiError`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer

from mroi.codecs import isolation
from mroi.codecs.base import (
    ChunkSpec,
    Codec,
    Fidelity,
    Filter,
    SupportsLevels,
    SupportsPrefix,
    SupportsRange,
    SupportsTarget,
    SupportsWeights,
    Values,
)
from mroi.codecs.filters import Bias, Cast, Planar, Window, filter_class
from mroi.codecs.guard import guarded
from mroi.codecs.registry import build, check_declarations, is_built_in
from mroi.errors import CodecError, CodecUnavailableError, DecodeError

__all__ = ["Pipeline"]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A codec and the filters before it, in the order in which encoding applies them.

    Attributes
    ----------
    codec : Codec
        What encodes and decodes.
    filters : tuple of Filter
        What is done before it, and undone after it.
    isolated : bool
        Whether a codec that says so (`Codec.isolated`) decodes in a process of its own.
    """

    codec: Codec
    filters: tuple[Filter, ...] = ()
    isolated: bool = False

    @classmethod
    def fitting(cls, codec: Codec, spec: ChunkSpec, values: Values | None = None) -> Self:
        """Return the pipeline with the fewest filters through which `codec` takes a kind of chunk.

        Filters are exact, unless the codec is not: a lossy codec also gets a window onto the
        values that there are, of as many bits as it takes.

        Parameters
        ----------
        codec : Codec
            What shall encode.
        spec : ChunkSpec
            What shall be encoded.
        values : Values or None
            What is known of all voxels; without it, types are not narrowed.

        Raises
        ------
        CodecError
            If no filter helps; the message says what the codec takes, and whether it would with a
            loss.
        CodecUnavailableError
            If it is a plug-in that does not work.
        """
        if not is_built_in(codec):
            with guarded(codec.name, CodecUnavailableError):
                check_declarations(codec, spec)
        with guarded(codec.name):
            for filters in _candidates(codec, spec, values):
                pipeline = cls(codec, filters)
                if pipeline.refuses(spec) is None:
                    return pipeline
            reason = _refusal(codec, spec) or f"{codec.name} does not take {spec.dtype}"
            if spec.dtype.kind in "iuf" and codec.fidelity is Fidelity.LOSSLESS:
                before = (Planar(),) if spec.samples > 1 else ()
                window = cls(codec, (*before, Window(1.0, 0.0, 8)))
                if isinstance(codec, SupportsTarget) and window.refuses(spec) is None:
                    reason += (
                        "; with a loss it takes these, too (--psnr 40, or a setting of its own)"
                    )
        raise CodecError(reason)

    @property
    def fidelity(self) -> Fidelity:
        """What the whole promises: the weakest promise of its steps (CDC-5)."""
        with guarded(self.codec.name):
            return max([self.codec.fidelity, *(step.fidelity for step in self.filters)])

    @property
    def supports_levels(self) -> bool:
        """Whether `decode_level` works: the codec can, and no filter moves voxels."""
        return isinstance(self.codec, SupportsLevels) and not self._moves_voxels()

    @property
    def supports_prefix(self) -> bool:
        """Whether `decode_prefix` costs less than `decode`."""
        return _can(type(self.codec), SupportsPrefix)

    @property
    def supports_range(self) -> bool:
        """Whether `decode_range` costs less than `decode_prefix`."""
        return _can(type(self.codec), SupportsRange)

    @property
    def supports_weights(self) -> bool:
        """Whether `encode` takes weights: the codec does, and no filter moves voxels."""
        return isinstance(self.codec, SupportsWeights) and not self._moves_voxels()

    def refuses(self, spec: ChunkSpec) -> str | None:
        """Return why chunks of this kind cannot be taken, naming those that can, or None."""
        try:
            *_, coded = self._specs(spec)
        except CodecError as exc:
            return exc.message
        with guarded(self.codec.name):
            return _refusal(self.codec, coded)

    def encode_seconds(self, spec: ChunkSpec) -> float:
        """Return how long the codec says that such a chunk takes, roughly; 0 for most."""
        with guarded(self.codec.name):
            return float(self.codec.encode_seconds(self._specs(spec)[-1]))

    def encode(
        self,
        chunk: NDArray[Any],
        spec: ChunkSpec,
        weights: NDArray[np.float32] | None = None,
    ) -> bytes:
        """Return the payload of a C-contiguous chunk of ``spec.shape`` and ``spec.dtype``.

        Parameters
        ----------
        chunk : ndarray
            The voxels.
        spec : ChunkSpec
            What a decoder will know of them.
        weights : (slices, rows, columns) ndarray of float32, optional
            What errors count: see `mroi.codecs.SupportsWeights`.

        Raises
        ------
        CodecError
            If the codec or a filter cannot take this chunk; the message says what it takes. Or if
            there are weights, and the codec takes none.
        """
        if reason := self.refuses(spec):
            raise CodecError(reason)
        if weights is not None and not self.supports_weights:
            raise CodecError(f"{self.codec.name} cannot keep some voxels better than others")
        *before, coded = self._specs(spec)
        for step, kind in zip(self.filters, before, strict=True):
            chunk = step.apply(chunk, kind)
        name = self.codec.name
        chunk = np.ascontiguousarray(chunk).view()
        chunk.flags.writeable = False  # it is the caller's
        with guarded(name):
            payload: object
            if weights is None:
                payload = self.codec.encode(chunk, coded)
            else:
                assert isinstance(self.codec, SupportsWeights)
                payload = self.codec.encode_weighted(chunk, coded, weights)
        if not isinstance(payload, bytes | bytearray | memoryview):
            raise CodecError(f"{name}: encode gave a {type(payload).__name__}, not bytes")
        return bytes(payload)

    def decode(self, payload: Buffer, spec: ChunkSpec) -> NDArray[Any]:
        """Return the chunk, C-contiguous, of ``spec.shape`` and ``spec.dtype``.

        Raises
        ------
        DecodeError
            If the payload is not one chunk of this kind (rule CHK-8).
        CodecUnavailableError
            If the library that decodes it is not installed.
        """
        return self._decode(payload, spec, spec, "decode")

    def decode_prefix(self, payload: Buffer, spec: ChunkSpec, count: int) -> NDArray[Any]:
        """Return the first `count` slices, decoding no more than the codec must.

        Parameters
        ----------
        payload : bytes-like
            What a file has for the chunk.
        spec : ChunkSpec
            The whole chunk.
        count : int
            1 to ``spec.shape[0]``.

        Returns
        -------
        ndarray of ``(count, *spec.shape[1:])`` and ``spec.dtype``

        Raises
        ------
        DecodeError, CodecUnavailableError
            As `decode`.
        """
        if not self.supports_prefix:
            return self.decode(payload, spec)[:count]
        part = replace(spec, shape=(count, *spec.shape[1:]))
        return self._decode(payload, spec, part, "decode_prefix", count)

    def decode_range(self, payload: Buffer, spec: ChunkSpec, start: int, stop: int) -> NDArray[Any]:
        """Return the slices from `start` to `stop`, decoding no more than the codec must.

        Parameters
        ----------
        payload : bytes-like
            What a file has for the chunk.
        spec : ChunkSpec
            The whole chunk.
        start, stop : int
            ``0 <= start < stop <= spec.shape[0]``.

        Returns
        -------
        ndarray of ``(stop - start, *spec.shape[1:])`` and ``spec.dtype``

        Raises
        ------
        DecodeError, CodecUnavailableError
            As `decode`.
        """
        if not self.supports_range:
            return self.decode_prefix(payload, spec, stop)[start:]
        part = replace(spec, shape=(stop - start, *spec.shape[1:]))
        return self._decode(payload, spec, part, "decode_range", start, stop)

    def decode_level(self, payload: Buffer, spec: ChunkSpec, level: int) -> NDArray[Any]:
        """Return the chunk with rows and columns divided by ``2**level``, rounded up.

        Parameters
        ----------
        payload : bytes-like
            What a file has for the chunk.
        spec : ChunkSpec
            The chunk at full resolution.
        level : int
            0 or more.

        Returns
        -------
        ndarray of ``(slices, rows, columns[, samples])`` and ``spec.dtype``

        Raises
        ------
        CodecError
            If `supports_levels` is false, or as `decode`.
        """
        if not isinstance(self.codec, SupportsLevels) or self._moves_voxels():
            raise CodecError(f"{self.codec.name} cannot decode at a reduced resolution")
        slices, rows, columns, *samples = spec.shape
        scale = 2**level
        part = replace(spec, shape=(slices, -(-rows // scale), -(-columns // scale), *samples))
        return self._decode(payload, spec, part, "decode_level", level)

    def to_json(self) -> dict[str, object]:
        """Return the record of this pipeline that the file holds beside the codec's name."""
        with guarded(self.codec.name):
            return {
                "encoder": self.codec.settings(),
                "filters": [{"name": step.name, "params": step.params()} for step in self.filters],
                "impl": self.codec.implementation(),
                "params": self.codec.params(),
            }

    @classmethod
    def from_json(cls, name: str, record: Mapping[str, object]) -> Self:
        """Return the pipeline that decodes what was written under `name` with `record`.

        Settings of the encoder and the name of its implementation are records; they change
        nothing here.

        Raises
        ------
        CodecUnavailableError
            If the codec, or a filter, is not known here.
        CodecError
            If `record` is not as `to_json` writes it (rule CDC-6).
        """
        if sorted(record) != ["encoder", "filters", "impl", "params"]:
            raise CodecError(f"codec record of {name!r} has the members {sorted(record)}", "CDC-6")
        params, filters = record["params"], record["filters"]
        objects = isinstance(params, dict) and isinstance(record["encoder"], dict)
        if not objects or not isinstance(filters, list) or not isinstance(record["impl"], str):
            raise CodecError(f"codec record of {name!r} has a member of a wrong type", "CDC-6")
        steps = tuple(_filter(step) for step in filters)
        return cls(build(name, params), steps)  # type: ignore[arg-type]  # a dict: `objects`

    def _specs(self, spec: ChunkSpec) -> list[ChunkSpec]:
        """Return the kind of chunk that each filter takes, and last the one the codec takes."""
        specs = [spec]
        for step in self.filters:
            specs.append(step.output(specs[-1]))
        return specs

    def _moves_voxels(self) -> bool:
        return any(step.moves_voxels for step in self.filters)

    def _decode(
        self,
        payload: Buffer,
        whole: ChunkSpec,
        part: ChunkSpec,
        method: str,
        *argument: int,
    ) -> NDArray[Any]:
        """Return the chunk `part` of a payload that holds the chunk `whole`."""
        codec = self.codec
        *before, wanted = self._specs(part)
        coded = wanted if part is whole else self._specs(whole)[-1]
        with guarded(codec.name):
            reason = _refusal(codec, coded)
        if reason:
            raise DecodeError(reason, "CHK-8")
        with guarded(codec.name, DecodeError, "CHK-8"):
            if self.isolated and codec.isolated:
                call = isolation.Call(codec, method, coded, argument)
                chunk = isolation.decode(call, payload, wanted)
            else:
                chunk = getattr(codec, method)(payload, coded, *argument)
        if not isinstance(chunk, np.ndarray):
            raise DecodeError(f"{codec.name} gave a {type(chunk).__name__}", "CHK-8")
        if chunk.shape != wanted.shape or chunk.dtype != wanted.dtype:
            raise DecodeError(
                f"{self.codec.name} gave {chunk.dtype} {chunk.shape}, "
                f"not {wanted.dtype} {wanted.shape}",
                "CHK-8",
            )
        for step, kind in zip(reversed(self.filters), reversed(before), strict=True):
            chunk = step.invert(chunk, kind)
        return np.ascontiguousarray(chunk)


@cache
def _can(codec: type[Codec], protocol: type[SupportsPrefix | SupportsRange]) -> bool:
    """Whether codecs of a class can; to find out takes as long as decoding a small chunk."""
    return issubclass(codec, protocol)


def _refusal(codec: Codec, spec: ChunkSpec) -> str | None:
    """Return why a codec cannot take such chunks, which may be too thick, or None if it can."""
    if reason := codec.refuses(spec):
        return reason
    if codec.max_slices is not None and spec.shape[0] > codec.max_slices:
        most = "1 slice" if codec.max_slices == 1 else f"{codec.max_slices} slices"
        return f"{codec.name} takes chunks of {most}, not {spec.shape[0]}"
    return None


def _candidates(
    codec: Codec, spec: ChunkSpec, values: Values | None
) -> Iterator[tuple[Filter, ...]]:
    """Yield the filters to try, the best first."""
    before: tuple[Filter, ...] = (Planar(),) if spec.samples > 1 else ()
    if values and codec.loss_is_relative and spec.dtype.itemsize > 1:
        yield from ((*before, window) for window in _windows(values))
    if values and values.whole and spec.dtype.kind == "f":
        yield from ((*before, *casts) for casts in _casts(values))  # smaller than as floats
    for first in (before[:0], before):
        yield first
        if spec.dtype.kind == "i" and spec.bits <= 53:
            yield (*first, Bias(1 << (spec.bits - 1)))
    known = values or _all_values(spec.dtype)
    if known and known.whole:
        yield from ((*before, *casts) for casts in _casts(known))
    if values and values.whole and values.high - values.low < 2**16:
        yield (*before, _exact_window(values))
    if values and codec.fidelity is not Fidelity.LOSSLESS:
        yield from ((*before, window) for window in _windows(values))


def _all_values(dtype: np.dtype[Any]) -> Values | None:
    """Return what a type of integers says of its values."""
    if dtype.kind not in "iu":
        return None
    info = np.iinfo(dtype)
    return Values(float(info.min), float(info.max), whole=True)


def _casts(values: Values) -> Iterator[tuple[Filter, ...]]:
    """Yield exact ways to integers that hold all values, the narrowest first."""
    for name in ("uint8", "int8", "uint16", "int16", "uint32", "int32"):
        info = np.iinfo(name)
        if info.min <= values.low and values.high <= info.max:
            yield (Cast(name),)
            if info.min:
                yield (Cast(name), Bias(-int(info.min)))


def _exact_window(values: Values) -> Window:
    """Return the window in steps of one onto integers that 16 bits can number: it loses nothing."""
    return Window(1.0, float(values.low), max(1, int(values.high - values.low).bit_length()))


def _windows(values: Values) -> Iterator[Window]:
    """Yield windows onto all values: in steps of one where they are few enough, or the finest."""
    if values.whole and values.high - values.low < 2**16:
        yield _exact_window(values)
    for bits in (16, 12, 8):
        yield Window.covering(values.low, values.high, bits)


def _filter(step: object) -> Filter:
    if not isinstance(step, dict) or sorted(step) != ["name", "params"]:
        raise CodecError(f"filter {step!r} is not an object of name and params", "CDC-6")
    if not isinstance(step["name"], str) or not isinstance(step["params"], dict):
        raise CodecError(f"filter {step!r} is not an object of name and params", "CDC-6")
    return filter_class(step["name"]).from_params(step["params"])
