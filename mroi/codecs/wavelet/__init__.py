"""A wavelet over three axes, and the range coder for its coefficients."""
