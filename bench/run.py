"""Make the published numbers: Loadstone beside the machine's own limits and other loaders, on this machine.

    python3 bench/run.py [GROUP...] [--quick] [--rounds N] [--docs]

Runs the groups of measurements that are named, or all; "cold" stands for all whose names begin with "cold.".
Each group has its own limits in the same run, takes some minutes of a machine that does nothing else, and is
saved on its own in --work, with its commit, machine and date. --docs writes docs/benchmarks.md and its
pictures from what is saved, and by itself runs nothing.

All groups need about 15 GB of disk and 16 GB of memory; --quick takes a smaller model. The other loaders go
into a virtual environment of their own in --work, or are those of --peer-python.
"""

import argparse
import json
import sys
from pathlib import Path

import cold
import hot
import report
import small
from measure import Unmeasurable, say
from suite import TREE, Environment, Group

GROUPS = hot.GROUPS | cold.GROUPS | small.GROUPS


def chosen(names):
    """The groups that names stand for, in their own order."""
    if not names:
        return list(GROUPS)
    wanted = set()
    for name in names:
        found = {group for group in GROUPS if group == name or group.startswith(name + ".")}
        if not found:
            sys.exit(f"bench: no group {name}; there are: {' '.join(GROUPS)}")
        wanted |= found
    return [group for group in GROUPS if group in wanted]


def saved_in(work, quick):
    return work / ("saved-quick" if quick else "saved")


def saved(directory):
    """What was measured last of each group, in the order of the groups."""
    paths = [directory / f"{name}.json" for name in GROUPS]
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists()]


def run_group(name, environment, directory):
    say(f"{name}:")
    group = Group(name, environment)
    GROUPS[name](group)
    results = group.results()
    directory.mkdir(parents=True, exist_ok=True)
    part = directory / f"{name}.part"
    part.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    part.replace(directory / f"{name}.json")
    print(report.as_text(results), flush=True)


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=" ".join(GROUPS))
    parser.add_argument("--build", type=Path, default=TREE / "build", help="the build directory")
    parser.add_argument("--work", type=Path, default=TREE / ".cache" / "bench", help="where files are kept")
    parser.add_argument("--quick", action="store_true", help="a smaller model; saved apart")
    parser.add_argument("--rounds", type=int, help="of each measurement (3; 11 where memory decides)")
    parser.add_argument("--peer-python", type=Path, help="a Python that has bench/requirements.txt")
    parser.add_argument("--no-peers", action="store_true", help="leave the other loaders out")
    parser.add_argument("--json", type=Path, help="write all that is saved here, too")
    parser.add_argument(
        "--docs", nargs="?", const=TREE / "docs", type=Path, metavar="DIR", help="write benchmarks.md (docs)"
    )
    return parser.parse_args()


def main():
    args = parse_arguments()
    directory = saved_in(args.work.resolve(), args.quick)
    failed = []
    if args.groups or not (args.docs or args.json):
        environment = Environment(args)
        for name in chosen(args.groups):
            try:
                run_group(name, environment, directory)
            except Unmeasurable as reason:
                say(f"bench: {name}: {reason}")
                failed.append(name)
        say(f"saved in {directory}")
    results = saved(directory)
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if args.docs:
        if not results:
            sys.exit(f"bench: nothing is saved in {directory}")
        found = {result["group"] for result in results}
        report.write_docs(results, [name for name in GROUPS if name not in found], args.docs)
    if failed:
        sys.exit(f"bench: not measured: {' '.join(failed)}")


if __name__ == "__main__":
    main()
