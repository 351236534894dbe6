"""Makes the modules of benches/lib importable for the tests here: `python3 -B -m unittest discover -s benches/tests`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))
