"""Our lossy codec of blocks: `wavelet3d`, the transform, and `rangecoder`, the entropy coder."""
