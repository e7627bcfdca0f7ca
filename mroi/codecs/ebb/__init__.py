"""Our lossy codec for volumes: `mroi.codecs.ebb.codec` says what it is."""

from mroi.codecs.ebb.codec import Ebb

__all__ = ["Ebb"]
