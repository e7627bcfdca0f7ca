"""Codecs that MPEG made: `heif`. `hevc` checks the picture in it before it is decoded."""
