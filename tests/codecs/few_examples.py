"""The laws of codecs with fewer examples: for codecs that compute networks."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mroi.testing import CodecSuite

few = settings(
    deadline=None,
    max_examples=10,
    suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow],
)


class FewExamples(CodecSuite):
    """The laws: a slice takes 20 to 30 ms whatever its size."""

    @few
    @given(data=st.data())
    def test_decoding_undoes_encoding(self, codec: Any, data: st.DataObject) -> None:
        law: Any = CodecSuite.test_decoding_undoes_encoding
        law.hypothesis.inner_test(self, codec, data)

    @few
    @given(data=st.data())
    def test_encoding_modifies_nothing(self, codec: Any, data: st.DataObject) -> None:
        law: Any = CodecSuite.test_encoding_modifies_nothing
        law.hypothesis.inner_test(self, codec, data)
