"""Save what is whole of a damaged file into a new, valid one that says what is missing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, BinaryIO

from mroi.container import (
    AtomicFile,
    Chunk,
    ContainerBuilder,
    ContainerWriter,
    Salvaged,
    Source,
    open_source,
    salvage,
)
from mroi.container.builder import Metadata
from mroi.errors import (
    CodecUnavailableError,
    FormatError,
    LimitError,
    MissingVoxelsError,
    MroiError,
)
from mroi.format.codec_table import Role
from mroi.format.records import ChunkState, FrameType
from mroi.format.restricted_json import MAX_JSON_SIZE, build_json, parse_json
from mroi.limits import DEFAULT_LIMITS, Limits
from mroi.volume.chunks import ChunkDecoder, decoded_crc
from mroi.volume.model import open_volume
from mroi.volume.progress import Progress
from mroi.volume.verify import verify_volume

__all__ = ["Recovery", "recover_volume"]

_LISTED = 1000
_ABOUT_MISSING = 40  # bytes that a file has for a missing chunk: a frame, and its place in INDX
_MOST_ABOUT_MISSING = 20  # times the size of the damaged file, and what is always allowed:
_ALWAYS_ABOUT_MISSING = 1 << 20


@dataclass(frozen=True, slots=True)
class Recovery:
    """What was saved.

    Attributes
    ----------
    chunks : int
        Chunks that the file should have.
    missing : tuple of int
        Ordinals of those that could not be saved.
    unchecked : bool
        Whether a codec is not installed, so that payloads were saved by their CRC alone.
    """

    chunks: int
    missing: tuple[int, ...]
    unchecked: bool


def recover_volume(
    source: str | os.PathLike[str] | bytes | BinaryIO | Source,
    target: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    limits: Limits = DEFAULT_LIMITS,
    progress: Progress | None = None,
) -> Recovery:
    """Write the whole chunks of a damaged or cut file to `target`, and check what was written.

    Parameters
    ----------
    source : path, URL, bytes, binary file or Source
        The damaged file.
    target : path
        Where to write what is whole; it appears under its name when it is proven.
    overwrite : bool
        Whether an existing file is replaced; otherwise `FileExistsError` is raised.
    limits : Limits
        What a file may make the reader take.
    progress : callable, optional
        Called as ``progress(step, done, total)``.

    Returns
    -------
    Recovery
        What was saved, and what was not.

    Raises
    ------
    FormatError
        If geometry, codecs or rescale factors are damaged (nothing can be saved without them), or
        no chunk is whole.
    LimitError
        If so little of a file with so many chunks is there that the new file would hardly say
        anything but what is missing. A hundredth of a file of 4 GB is always enough.
    UsageError
        If `target` is the damaged file.
    """
    found = salvage(open_source(source), limits=limits)
    _check_share(found)
    isolated = limits.isolates(default=True)
    decoder = ChunkDecoder(found.head.geom, found.head.codecs, isolated=isolated)
    usable, unchecked = _usable(found, decoder, progress)
    count = found.head.chunk_count
    missing = tuple(i for i in range(count) if i not in usable)
    if len(missing) == count:
        but = ", only its overview" * found.has_overview
        raise FormatError(f"no chunk of the file is whole{but}: nothing can be saved", "SAL-1")
    with AtomicFile(target, overwrite=overwrite, inputs=[found.source]) as file:
        writer = ContainerWriter(file)
        builder = ContainerBuilder(
            found.head.geom,
            found.head.codecs,
            rescale=_rescale(found),
            can_seek=writer.can_seek,
            partial=bool(missing),
            decoded_crcs=not unchecked,
        )
        writer.start(builder)
        _write(writer, found, usable)
        writer.finish(_metadata(found, missing))
        # Checked before it gets its name: a file that failed would look like a good one.
        report = verify_volume(open_volume(file, limits=limits))
        if problems := [p for p in report.problems if not isinstance(p, CodecUnavailableError)]:
            raise problems[0]
    return Recovery(count, missing, unchecked)


def _usable(
    found: Salvaged, decoder: ChunkDecoder, progress: Progress | None
) -> tuple[dict[int, int], bool]:
    """Return the decoded CRC of each chunk that can be saved, and whether some are unchecked."""
    usable: dict[int, int] = {}
    unchecked = False
    for done, ordinal in enumerate(sorted(found.found), start=1):
        chunk = found.read_chunk(ordinal)
        try:
            usable[ordinal] = _decoded_crc(chunk, decoder)
        except CodecUnavailableError:
            usable[ordinal] = 0
            unchecked = True
        except MroiError:
            continue  # its own CRC is right, but it does not decode to what was written
        if progress:
            progress("checking", done, len(found.found))
    return usable, unchecked


def _decoded_crc(chunk: Chunk, decoder: ChunkDecoder) -> int:
    if chunk.state is ChunkState.MISSING:
        raise MissingVoxelsError(f"chunk {chunk.ordinal} was already missing", "CHK-10")
    decoded = decoder.decode(chunk)
    return decoded_crc(chunk, decoded) if chunk.decoded_crc is None else chunk.decoded_crc


def _check_share(found: Salvaged) -> None:
    """Refuse to write much about what is missing, compared with what is there (LIM-1)."""
    count, size = found.head.chunk_count, found.source.size()
    most = size * _MOST_ABOUT_MISSING + _ALWAYS_ABOUT_MISSING
    if (needed := (count - len(found.found)) * _ABOUT_MISSING) > most:
        raise LimitError(
            f"{len(found.found):,} of {count:,} chunks are there: to say that the others are "
            f"missing takes {needed:,} bytes, at most {most:,} for a file of {size:,}",
            "LIM-1",
        )


def _write(writer: ContainerWriter, found: Salvaged, usable: dict[int, int]) -> None:
    """Write all chunks in order, those that cannot be used as missing."""
    grid = found.head.geom.grid
    at = 0
    for ordinal in (*sorted(usable), grid.chunks):
        border = min(max(at, grid.roi_chunks), ordinal)
        writer.write_missing(border - at, slot=_slot(found, Role.ROI))
        writer.write_missing(ordinal - border, slot=_slot(found, Role.BACKGROUND))
        if ordinal < grid.chunks:
            chunk = found.read_chunk(ordinal)
            crc = usable[ordinal]
            writer.write_chunk(chunk.state, chunk.payload, slot=chunk.slot, decoded_crc=crc)
        at = ordinal + 1


def _slot(found: Salvaged, role: Role) -> int:
    return next((i for i, entry in enumerate(found.head.codecs) if entry.role is role), 0)


def _rescale(found: Salvaged) -> bytes | None:
    rescale = found.head.rescale
    return None if rescale is None else rescale.astype("<f8").tobytes()


def _metadata(found: Salvaged, missing: tuple[int, ...]) -> list[Metadata]:
    """Return the frames that were whole, with the provenance telling what is missing."""
    provenance: dict[str, Any] = {}
    frames = []
    for frame in found.frames:
        header = frame.header
        if header.type == FrameType.JSON:
            try:
                content = frame.content(DEFAULT_LIMITS)
                provenance = parse_json(content, max_size=MAX_JSON_SIZE)
            except MroiError:
                continue
        else:
            frames.append(Metadata(header.type, frame.payload, header.ordinal, header.flags))
    if missing:
        saved = {"missing": len(missing), "missing_chunks": list(missing[:_LISTED])}
        provenance = {**provenance, "salvage": saved}
    if provenance:
        frames.append(Metadata(FrameType.JSON, build_json(provenance)))
    return frames
