"""Codecs of numbers and bytes that know nothing of pictures.

Every reader has: `raw`, `zstd` and `deflate`; the last two group bytes by `shuffle` first.

Optional: `pcodec` (integers and floats, lossless), `zfp` (floats, lossless or within a tolerance).
"""
