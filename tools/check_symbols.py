"""The shared library exports what the public header declares, and nothing else."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def declared() -> set[str]:
    header = (ROOT / "include/loadstone.h").read_text()
    header = re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL)
    calls = re.findall(r"^LDS_API\b[^;{]*?\b(lds_\w+)\(", header, flags=re.MULTILINE)
    return set(calls)


def exported(library: str) -> set[str]:
    nm = subprocess.run(
        ["nm", "-D", "--defined-only", "--format=posix", library], check=True, capture_output=True, text=True
    )
    symbols = (line.split() for line in nm.stdout.splitlines())
    # A is the version node itself.
    return {fields[0].split("@")[0] for fields in symbols if fields[1] != "A"}


def main() -> int:
    header, library = declared(), exported(sys.argv[1])
    for name in sorted(header - library):
        print(f"declared in the header, not exported: {name}")
    for name in sorted(library - header):
        print(f"exported, not declared in the header: {name}")
    return 1 if header != library else 0


if __name__ == "__main__":
    sys.exit(main())
