"""What is summarised where nothing else is given."""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["SAMPLE"]

SAMPLE: Final = Path(__file__).with_name("origin.txt").read_text(encoding="utf-8")
"""The opening of Charles Darwin's On the Origin of Species (1859), in the public domain."""
