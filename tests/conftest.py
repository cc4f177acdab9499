"""Test set-up: the tests folder is importable, so that areas can share their harness."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
