"""Invalid files: one fault each, everything around it right, so that the deeper checks are reached.

`when` is the step by which a reader has refused: ``open``, ``decode`` (all voxels) or ``verify``
(everything). A fault that breaks several rules at once names in `also` those that a reader may
meet first.
"""

from __future__ import annotations

from collections.abc import Iterator

from cases import invalid_chunks, invalid_frames, invalid_head, invalid_metadata, overview
from cases.faults import Case


def cases() -> Iterator[Case]:
    """Yield all invalid files, in the order of the rules in the text."""
    yield from invalid_frames.file_layout()
    yield from invalid_frames.prefix()
    yield from invalid_frames.frame_headers()
    yield from invalid_frames.frame_payloads()
    yield from invalid_frames.frame_order()
    yield from invalid_frames.compressed_payloads()
    yield from invalid_head.head()
    yield from invalid_head.roi_record()
    yield from invalid_head.geometry()
    yield from invalid_head.geometry_values()
    yield from invalid_head.codec_table()
    yield from invalid_head.rescale()
    yield from invalid_chunks.background()
    yield from invalid_chunks.chunks()
    yield from invalid_chunks.payloads()
    yield from invalid_chunks.index()
    yield from invalid_chunks.footer()
    yield from invalid_metadata.metadata()
    yield from invalid_metadata.restricted_json()
    yield from invalid_metadata.dicom()
    yield from overview.invalid()
    yield from invalid_metadata.limits()
