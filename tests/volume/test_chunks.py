"""What a slot of a file says of the codec of its chunks."""

from dataclasses import replace

import pytest

from mroi.errors import DecodeError
from mroi.format.codec_table import Role
from mroi.volume.chunks import codec_entry, codec_named, open_pipeline


def test_a_slot_like_one_that_was_read_before_is_checked_all_the_same() -> None:
    entry = codec_entry(codec_named("zstd"), Role.ROI)
    assert open_pipeline(entry) is open_pipeline(replace(entry))
    alike = {"delta": 0, "shuffle": 1}
    assert entry.parameters["params"] == alike
    with pytest.raises(DecodeError) as caught:
        open_pipeline(replace(entry, parameters=entry.parameters | {"params": alike}))
    assert caught.value.rule == "CDC-6"
