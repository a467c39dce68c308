"""Where the tree of these tests is, and what is built of it."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / os.environ.get("LDS_BUILD_DIR", "build")
