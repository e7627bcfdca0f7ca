"""Property tests check the same examples each time; `--hypothesis-profile=search` finds others."""

from hypothesis import settings

settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=5000)
settings.load_profile("same")
