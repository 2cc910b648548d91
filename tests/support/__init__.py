"""What several tests share: tiny networks, stores that fail, cases with exact answers."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests/data"
SPECS = ROOT / "augment_specs"
