"""Makes tests/unit/rendering.py and tests/directus/real.py importable."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / name) for name in ("unit", "directus")]
