"""Codecs of numbers that know nothing of pictures: raw, deflate, zstd, pcodec, zfp."""
