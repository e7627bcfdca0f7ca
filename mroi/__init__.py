"""Medical volumes in one file: region of interest, per-slice access, any codec."""
