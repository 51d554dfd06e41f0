"""Settings that hold for all tests."""

from hypothesis import settings

# No deadline: speed is judged by benchmarks, not by tests, which may share their machine.
settings.register_profile("suite", deadline=None, max_examples=60)
settings.load_profile("suite")
