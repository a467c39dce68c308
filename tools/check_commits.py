"""Are the messages of a range of commits in the form that CONTRIBUTING.md asks for?

usage: check_commits.py BASE..HEAD
"""

import re
import subprocess
import sys

SUBJECT = re.compile(r"[a-z0-9_.-]+(, [a-z0-9_.-]+)*: [^ ].*[^ .]")
MAX_SUBJECT, MAX_LINE = 72, 76


def problems(message: str) -> list[str]:
    subject, *body = message.rstrip("\n").split("\n")
    found = []
    if not SUBJECT.fullmatch(subject):
        found.append('expected "area: what it does" without a full stop as the subject')
    if len(subject) > MAX_SUBJECT:
        found.append(f"expected a subject of at most {MAX_SUBJECT} characters, found {len(subject)}")
    if subject.startswith(("fixup!", "squash!")):
        found.append("expected fixups to be folded into the commits that they mend")
    if not any(line.strip() for line in body):
        found.append("expected a body that says why")
    elif body[0].strip():
        found.append("expected an empty line after the subject")
    # A line without a space cannot be wrapped.
    found += [
        f"expected lines of at most {MAX_LINE} characters, found: {line}"
        for line in body
        if len(line) > MAX_LINE and " " in line.strip()
    ]
    return found


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__.strip().splitlines()[-1], file=sys.stderr)
        return 2
    log = subprocess.run(
        ["git", "log", "--no-merges", "--format=%h%x00%B%x01", sys.argv[1]],
        check=True,
        capture_output=True,
        text=True,
    )
    bad = False
    for entry in filter(str.strip, log.stdout.split("\x01")):
        commit, message = entry.strip("\n").split("\0")
        for problem in problems(message):
            print(f"{commit}: {problem}")
            bad = True
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
