"""The command line, as its own tests have it."""

from tests.cli.conftest import mroi, scan

__all__ = ["mroi", "scan"]
