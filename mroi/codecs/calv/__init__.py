"""The lossless codec of this project: smaller than what one can install, or faster than gzip."""

from mroi.codecs.calv.codec import Calv

__all__ = ["Calv"]
