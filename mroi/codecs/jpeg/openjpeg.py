"""OpenJPEG, through glymur: one plane in memory to a JPEG 2000 codestream and back.

glymur brings no OpenJPEG of its own. Pillow does: its wheels for Linux and macOS hold OpenJPEG as
a shared library (BSD licence), which can be loaded by path; so do those of imagecodecs for Linux.
On Windows both link it into their extensions, and a system library is rare: there imagecodecs
does the work itself, without compression ratios and reduced resolutions, which it lacks.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import importlib.util
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from mroi.codecs import native
from mroi.codecs.base import ChunkSpec
from mroi.errors import CodecError, CodecUnavailableError, DecodeError

__all__ = ["Coding", "decode", "encode", "implementation", "probe"]


@dataclass(frozen=True, slots=True)
class Coding:
    """How to encode a plane.

    Attributes
    ----------
    bits : int
        Precision of a sample.
    signed : bool
        Whether samples are signed.
    ratio : float or None
        Size of the samples at `bits` each over the size of the codestream.
    psnr : float or None
        Quality in dB, the peak being ``2 ** bits - 1``. Without both, lossless.
    """

    bits: int
    signed: bool
    ratio: float | None = None
    psnr: float | None = None


def probe() -> str | None:
    """Return None if planes can be coded here, else what is missing and how to get it."""
    if _glymur() is not None:
        return None
    return native.find_missing("imagecodecs", "codecs", "JPEG2K")


def implementation() -> str:
    """Name and version of the library that does the work."""
    if (library := _glymur()) is not None:
        return f"openjpeg {library.version()}"
    return f"openjpeg {_imagecodecs().jpeg2k_version().removeprefix('openjpeg').strip()}"


def encode(plane: NDArray[Any], coding: Coding) -> bytes:
    """Return the codestream of a plane.

    Parameters
    ----------
    plane : (rows, columns, samples) ndarray of integers
        Values within ``coding.bits``.
    coding : Coding
        Precision, and how much to lose.

    Raises
    ------
    CodecError
        If OpenJPEG refuses.
    CodecUnavailableError
        If there is none that can do it here.
    """
    library = _glymur()
    if library is None:
        return _encode_imagecodecs(plane, coding)
    rows, columns, samples = plane.shape
    parameters = _parameters(library, plane.shape, coding)
    layout = (library.ImageComptParmType * samples)()
    for component in layout:
        component.dx = component.dy = 1
        component.w, component.h = columns, rows
        component.prec = component.bpp = coding.bits
        component.sgnd = coding.signed
    with _messages() as (messages, handler), contextlib.ExitStack() as stack:
        space = library.CLRSPC_SRGB if samples >= 3 else library.CLRSPC_GRAY
        image = library.image_create(layout, space)
        stack.callback(library.image_destroy, image)
        image.contents.x0 = image.contents.y0 = 0
        image.contents.x1, image.contents.y1 = columns, rows
        for k in range(samples):
            data = np.ctypeslib.as_array(image.contents.comps[k].data, (rows, columns))
            data[...] = plane[:, :, k]
        codec = library.create_compress(library.CODEC_J2K)
        stack.callback(library.destroy_codec, codec)
        sink = _Sink(library)
        stack.callback(library.stream_destroy, sink.stream)
        try:
            library.set_error_handler(codec, handler)
            library.set_warning_handler(codec, handler)
            library.setup_encoder(codec, parameters, image)
            library.start_compress(codec, image, sink.stream)
            library.encode(codec, sink.stream)
            library.end_compress(codec, sink.stream)
        except library.OpenJPEGLibraryError as exc:
            raise CodecError(f"openjpeg: {' '.join(messages) or exc}") from exc
        return bytes(sink.data)


def decode(payload: memoryview, spec: ChunkSpec, level: int) -> NDArray[Any]:
    """Return the plane of a codestream that has been checked.

    OpenJPEG takes 4 bytes for each sample, and as many bytes as the codestream has; the plane
    that is returned comes on top.

    Parameters
    ----------
    payload : memoryview of bytes
        A codestream.
    spec : ChunkSpec
        The plane; its type holds samples of the precision of the codestream.
    level : int
        Rows and columns are divided by ``2 ** level``, rounded up.

    Returns
    -------
    (rows, columns, samples) ndarray of ``spec.dtype``

    Raises
    ------
    DecodeError
        If OpenJPEG finds anything to complain about (rule CHK-8).
    """
    library = _glymur()
    if library is None:
        return _decode_imagecodecs(payload, level).astype(spec.dtype)
    with _messages() as (messages, handler), contextlib.ExitStack() as stack:
        source = _Source(library, payload)
        stack.callback(library.stream_destroy, source.stream)
        codec = library.create_decompress(library.CODEC_J2K)
        stack.callback(library.destroy_codec, codec)
        parameters = library.set_default_decoder_parameters()
        parameters.cp_reduce = level
        try:
            library.set_error_handler(codec, handler)
            library.set_warning_handler(codec, handler)
            library.setup_decoder(codec, parameters)
            image = library.read_header(source.stream, codec)
            stack.callback(library.image_destroy, image)
            library.decode(codec, source.stream, image)
            library.end_decompress(codec, source.stream)
        except library.OpenJPEGLibraryError as exc:
            raise DecodeError(f"openjpeg: {' '.join(messages) or exc}", "CHK-8") from exc
        if messages:  # a warning: something was missing, and made up
            raise DecodeError(f"openjpeg: {' '.join(messages)}", "CHK-8")
        components = [image.contents.comps[k] for k in range(image.contents.numcomps)]
        if any(not component.data for component in components):
            raise DecodeError("openjpeg: a component has no samples", "CHK-8")
        planes = [np.ctypeslib.as_array(c.data, (c.h, c.w)) for c in components]
        if any(plane.shape != planes[0].shape for plane in planes):
            raise DecodeError("openjpeg: components differ in size", "CHK-8")
        plane = np.empty((*planes[0].shape, len(planes)), spec.dtype)
        for k, samples in enumerate(planes):
            plane[:, :, k] = samples
        return plane


def _parameters(library: ModuleType, shape: tuple[int, ...], coding: Coding) -> Any:
    """Return OpenJPEG's parameters: one tile, one layer, resolutions in order."""
    parameters = library.set_default_encoder_parameters()
    parameters.numresolution = min(6, min(shape[:2]).bit_length())
    parameters.prog_order = 2  # RPCL: a smaller picture is a prefix of the codestream
    parameters.tcp_numlayers = 1
    parameters.tcp_mct = shape[2] >= 3
    parameters.irreversible = coding.ratio is not None or coding.psnr is not None
    if coding.psnr is not None:
        parameters.cp_fixed_quality = 1
        parameters.tcp_distoratio[0] = coding.psnr
    else:
        parameters.cp_disto_alloc = 1
        parameters.tcp_rates[0] = coding.ratio or 0
    return parameters


_IMPORTING = threading.Lock()


@cache
def _glymur() -> ModuleType | None:
    """Return glymur's bindings with a library behind them, or None."""
    if not importlib.util.find_spec("glymur"):
        return None
    bundled = _bundled()
    with _IMPORTING:
        find = ctypes.util.find_library
        if bundled is not None:
            # glymur looks for its library once, when imported, and through this function.
            ctypes.util.find_library = lambda name: bundled if name == "openjp2" else find(name)
        try:
            from glymur.lib import openjp2
        finally:
            ctypes.util.find_library = find
    return openjp2 if openjp2.OPENJP2 is not None else None


def _bundled() -> str | None:
    """Return the path of an OpenJPEG that a wheel brought along, or None."""
    for package in ("PIL", "imagecodecs"):
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            continue
        home = Path(spec.origin).parent
        distribution = "pillow" if package == "PIL" else package
        for folder in (home.parent / f"{distribution}.libs", home / ".dylibs"):
            if found := sorted(folder.glob("libopenjp2*")):
                return str(found[0])
    return None


@contextlib.contextmanager
def _messages() -> Iterator[tuple[list[str], Any]]:
    """Collect what OpenJPEG says during one call, in this thread alone."""
    messages: list[str] = []

    def collect(message: bytes, _: object) -> None:
        messages.append(message.decode("utf-8", "replace").strip())

    kind = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_void_p)
    yield messages, kind(collect)


_READ = ctypes.CFUNCTYPE(ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
_SKIP = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
_SEEK = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_int64, ctypes.c_void_p)
_END = ctypes.c_size_t(-1).value


class _Stream:
    """A stream of OpenJPEG over memory; its callbacks live as long as it does."""

    def __init__(self, library: ModuleType, size: int, *, is_input: bool) -> None:
        dll = library.OPENJP2
        dll.opj_stream_create.restype = ctypes.c_void_p
        dll.opj_stream_create.argtypes = [ctypes.c_size_t, ctypes.c_int32]
        self.at = 0
        self.stream = dll.opj_stream_create(max(size, 1), is_input)
        self._callbacks = (_READ(self._transfer), _SKIP(self._skip), _SEEK(self._seek))
        transfer = "write" if not is_input else "read"
        for what, callback in zip((transfer, "skip", "seek"), self._callbacks, strict=True):
            function = getattr(dll, f"opj_stream_set_{what}_function")
            function.argtypes, function.restype = [ctypes.c_void_p, type(callback)], None
            function(self.stream, callback)
        dll.opj_stream_set_user_data.argtypes = [ctypes.c_void_p] * 3
        dll.opj_stream_set_user_data.restype = None
        dll.opj_stream_set_user_data(self.stream, None, None)
        dll.opj_stream_set_user_data_length.argtypes = [ctypes.c_void_p, ctypes.c_uint64]
        dll.opj_stream_set_user_data_length.restype = None
        dll.opj_stream_set_user_data_length(self.stream, size)

    def _transfer(self, buffer: int, count: int, _: object) -> int:
        raise NotImplementedError

    def _skip(self, count: int, _: object) -> int:
        self.at += count
        return count

    def _seek(self, offset: int, _: object) -> int:
        self.at = offset
        return 1


class _Source(_Stream):
    """Reads a payload."""

    def __init__(self, library: ModuleType, payload: memoryview) -> None:
        self._payload = np.frombuffer(payload, np.uint8)
        super().__init__(library, len(payload), is_input=True)

    @override
    def _transfer(self, buffer: int, count: int, _: object) -> int:
        count = min(count, len(self._payload) - self.at)
        if count <= 0:
            return _END
        ctypes.memmove(buffer, self._payload[self.at :].ctypes.data, count)
        self.at += count
        return count


class _Sink(_Stream):
    """Collects a codestream."""

    def __init__(self, library: ModuleType) -> None:
        self.data = bytearray()
        super().__init__(library, 1 << 20, is_input=False)

    @override
    def _transfer(self, buffer: int, count: int, _: object) -> int:
        stop = self.at + count
        if len(self.data) < stop:
            self.data.extend(bytes(stop - len(self.data)))
        self.data[self.at : stop] = ctypes.string_at(buffer, count)
        self.at = stop
        return count


def _imagecodecs() -> ModuleType:
    return native.imagecodecs("JPEG2K")


def _encode_imagecodecs(plane: NDArray[Any], coding: Coding) -> bytes:
    library = _imagecodecs()
    if coding.ratio is not None:
        raise CodecUnavailableError("a compression ratio needs glymur and a shared OpenJPEG")
    width = 8 if coding.bits <= 8 else 16 if coding.bits <= 16 else 32
    dtype = np.dtype(f"{'i' if coding.signed else 'u'}{width // 8}")
    encoded: bytes = library.jpeg2k_encode(
        np.ascontiguousarray(plane.squeeze(2) if plane.shape[2] == 1 else plane, dtype),
        level=0 if coding.psnr is None else coding.psnr,
        reversible=coding.psnr is None,
        codecformat="j2k",
        bitspersample=coding.bits,
        resolutions=min(6, min(plane.shape[:2]).bit_length()),
        numthreads=1,
    )
    return encoded


def _decode_imagecodecs(payload: memoryview, level: int) -> NDArray[np.int32]:
    library = _imagecodecs()
    if level:
        raise CodecUnavailableError("a reduced resolution needs glymur and a shared OpenJPEG")
    try:
        plane = library.jpeg2k_decode(payload, numthreads=1)
    except (library.Jpeg2kError, ValueError, RuntimeError) as exc:
        raise DecodeError(f"openjpeg: {exc}", "CHK-8") from exc
    return np.atleast_3d(plane).astype(np.int32)
