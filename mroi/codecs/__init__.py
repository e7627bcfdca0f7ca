"""Codecs: between a chunk of voxels and its payload."""
