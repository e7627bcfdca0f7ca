"""Codecs that JPEG made: planes that other programs can read, too.

JPEG 2000 (ITU-T T.800, T.814): `jpeg2000`, `jpeg2000_3d` with a wavelet along the slices, and
`htj2k`. `codestream` checks what their decoders are about to do; `openjpeg` calls the library.

Others: `jpegls` (ITU-T T.87) and `jpegxl` (ISO/IEC 18181-1).

Below both: `precision`, how many bits the voxels of a chunk need.
"""
