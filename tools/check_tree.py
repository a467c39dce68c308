"""What no compiler sees in tracked files: stray white space, invisible characters, paths of one machine, and
includes against the direction in which the rooms of src/ depend on each other (docs/design.md)."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEXT = {".c", ".h", ".py", ".md", ".build", ".ini", ".sh", ".toml", ".txt", ".yml", ".map", ".options", ""}

RULES = [
    (re.compile(r"[ \t]+$"), "white space at the end of a line"),
    (re.compile(r"\r"), "carriage return"),
    (re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\u00ad]"), "invisible character"),
    (re.compile(r"(^|[^A-Za-z0-9_.~])/(work|root|home)/"), "path of one machine"),
]
LINK = re.compile(r"\]\(([^)#:]+)(#[^)]*)?\)")
C_RULES = [(re.compile(r"\t"), "tab")]

# Each may include what stands before it.
ROOMS = ["base", "dtype", "checkpoint", "network", "plan", "io", "load"]
INCLUDE = re.compile(r'^#include "src/(\w+)/', re.MULTILINE)


def wrong_includes(path: str, text: str) -> list[str]:
    top, *rest = path.split("/")
    if top in {"cli", "examples", "python"}:
        return [
            f"{path}: expected the public header alone, found src/{room}" for room in INCLUDE.findall(text)
        ]
    if top != "src" or rest[0] not in ROOMS:
        return []
    allowed = ROOMS[: ROOMS.index(rest[0]) + 1]
    wrong = [room for room in INCLUDE.findall(text) if room not in allowed]
    return [f"{path}: expected no include from src/{room}, which comes after it" for room in wrong]


def check(path: str) -> list[str]:
    file = ROOT / path
    if file.suffix not in TEXT or file.is_symlink():
        return []
    text = file.read_text(encoding="utf-8")
    rules = RULES + (C_RULES if file.suffix in {".c", ".h", ".py"} else [])
    found = [
        f"{path}:{number}: {what}"
        for number, line in enumerate(text.split("\n"), 1)
        for pattern, what in rules
        if pattern.search(line)
    ]
    if file.suffix == ".md":
        links = [match[1] for match in LINK.finditer(text) if not (file.parent / match[1]).exists()]
        found += [f"{path}: links to {link}, which is not there" for link in links]
    if file.suffix in {".c", ".h"}:
        found += wrong_includes(path, text)
    if text and (not text.endswith("\n") or text.endswith("\n\n")):
        found.append(f"{path}: expected one newline at the end")
    return found


def main() -> int:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    paths = [
        path
        for path in tracked.stdout.split("\0")
        if path and not path.startswith(("tests/golden/", "fuzz/corpus/"))
    ]
    found = [line for path in paths if (ROOT / path).exists() for line in check(path)]
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
