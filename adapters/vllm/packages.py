"""Placeholder until the set-up helper's version lands."""


def verify_own_packages() -> None:
    """Check nothing yet."""
