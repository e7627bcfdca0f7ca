"""Codecs of MPEG: HEIF with HEVC."""
