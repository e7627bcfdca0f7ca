"""Codecs of the JPEG committee: JPEG-LS, JPEG 2000 (2-D, 3-D, high throughput), JPEG XL."""
