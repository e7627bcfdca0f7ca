"""Laws for codecs, and the chunks to try them on: for authors of plug-ins, and for mroi itself."""

from mroi.testing.strategies import DTYPES, chunks, specs, specs_for
from mroi.testing.suites import CodecSuite

__all__ = ["DTYPES", "CodecSuite", "chunks", "specs", "specs_for"]
