"""Siemens CSA headers: the private elements that say how many slices a mosaic holds.

Two versions exist; both are a table of named tags, each with items of text. What is known of them
comes from nibabel's description of the format.
"""

from __future__ import annotations

import struct

from mroi.errors import SourceError

__all__ = ["parse_csa"]

_TAG = struct.Struct("<64si4s3i")
_ITEM = struct.Struct("<4i")


def parse_csa(data: bytes) -> dict[str, tuple[str, ...]]:
    """Return the items of each tag, without those that are empty.

    Parameters
    ----------
    data : bytes
        Value of the element (0029,xx10) or (0029,xx20) of the creator ``SIEMENS CSA HEADER``.

    Raises
    ------
    SourceError
        If the data is not a CSA header.
    """
    second = data[:4] == b"SV10"
    offset = 8 if second else 0
    if len(data) < offset + 8:
        raise SourceError("CSA header is truncated")
    count, _ = struct.unpack_from("<2I", data, offset)
    offset += 8
    tags: dict[str, tuple[str, ...]] = {}
    first_count = 0
    for number in range(count):
        if len(data) - offset < _TAG.size:
            raise SourceError(f"CSA header ends before tag {number} of {count}")
        name, _, _, _, item_count, _ = _TAG.unpack_from(data, offset)
        offset += _TAG.size
        if number == 0:
            first_count = item_count
        items: list[str] = []
        for _ in range(item_count):
            if len(data) - offset < _ITEM.size:
                raise SourceError("CSA header ends within a tag")
            lengths = _ITEM.unpack_from(data, offset)
            offset += _ITEM.size
            # The first version adds the number of items of the first tag to every length.
            length = lengths[1] if second else lengths[0] - first_count
            if length < 0 or length > len(data) - offset:
                if second:
                    raise SourceError(f"CSA header: an item has {length} bytes")
                length = 0  # the first version fills unused items with anything
            text = data[offset : offset + length].split(b"\0", 1)[0]
            if text.strip():
                items.append(text.decode("latin-1").strip())
            offset += (length + 3) // 4 * 4
        tags[name.split(b"\0", 1)[0].decode("latin-1")] = tuple(items)
    return tags
