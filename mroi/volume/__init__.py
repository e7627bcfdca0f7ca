"""Volumes: geometry, ROI and chunks put together. Sources in, files out, and lazily back."""
