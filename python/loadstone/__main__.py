"""python -m loadstone: the command line."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Become the command, which stands beside this file."""
    command = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_command")
    os.execv(command, ["loadstone", *sys.argv[1:]])


if __name__ == "__main__":
    main()
