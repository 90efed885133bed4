"""What holds for every test."""

from __future__ import annotations

from hypothesis import settings

# Where a test says nothing else. The suite is run often and its examples are drawn anew each time,
# so many short looks find what one long look would.
settings.register_profile("suite", max_examples=25)
settings.load_profile("suite")
