#!/usr/bin/env python3
"""What a kernel's loop costs on a processor that is not at hand, by the model of it that llvm-mca has.

    python3 tools/kernel_cost.py build-aarch64 neon neoverse-n1,tsv110 f32_to_bf16 ...

prints for each kernel the instructions, and for each processor the cycles, of 16 elements. A model knows
execution units, and neither memory nor branches: it tells how much arithmetic there is, no more.
"""

import argparse
import re
import subprocess
import tempfile
from pathlib import Path

TARGETS = {"neon": ("aarch64-linux-gnu", "aarch64-linux-gnu-objdump")}
TARGETS |= dict.fromkeys(("avx2", "avx512", "avx512vbmi"), ("x86_64", "objdump"))
BLOCKS = {"neon": 16, "avx2": 32, "avx512": 64, "avx512vbmi": 64}  # elements that a turn of the loop converts
VECTOR = re.compile(r"[xyz]mm\d|\b[vq]\d")
BRANCH = re.compile(r"(?:j(?!mp)[a-z]+|b\.[a-z]+|cbn?z\s+\w+,|tbn?z\s+\w+,.*,)\s+([0-9a-f]+)\b")


def function(objdump: str, library: Path, isa: str, name: str) -> list[tuple[int, str]]:
    """Address and text of its instructions."""
    text = subprocess.run(
        [objdump, "-d", "--no-show-raw-insn", library], capture_output=True, text=True, check=True
    ).stdout
    member = re.search(rf"kernels_{isa}\.c\.o:.*?(?=\n\S+\.o:|\Z)", text, re.DOTALL)[0]
    body = re.search(rf"<{name}>:\n(.*?)(?:\n\n|\Z)", member, re.DOTALL)[1]
    lines = re.findall(r"^\s*([0-9a-f]+):\s+(.*?)\s*(?://.*|\s#\s.*)?$", body, re.MULTILINE)
    return [(int(address, 16), re.sub(r"\s*<.*?>", "", line)) for address, line in lines]


def hottest_loop(lines: list[tuple[int, str]]) -> list[str]:
    """The one with the most vector instructions, of those with one way out beside their end, and no call."""
    loops = []
    for end, line in lines:
        if not (jump := BRANCH.match(line)) or int(jump[1], 16) > end:
            continue
        loop = [line for at, line in lines if int(jump[1], 16) <= at <= end]
        straight = [line for line in loop if not BRANCH.match(line)]
        if len(loop) <= len(straight) + 2 and not any(re.match(r"ret|call|bl\b", line) for line in straight):
            loops.append(straight)
    return max(loops, key=lambda loop: sum(bool(VECTOR.search(line)) for line in loop))


def cycles(loop: list[str], triple: str, cpu: str) -> float:
    n = 100
    with tempfile.NamedTemporaryFile("w", suffix=".s") as file:
        file.write("\n".join(loop) + "\n")
        file.flush()
        command = ["llvm-mca", f"-mtriple={triple}", f"-mcpu={cpu}", f"-iterations={n}", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return int(re.search(r"Total Cycles: +(\d+)", text)[1]) / n


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("build", type=Path)
    parser.add_argument("isa", choices=TARGETS)
    parser.add_argument("cpus")
    parser.add_argument("kernels", nargs="+")
    args = parser.parse_args()
    triple, objdump = TARGETS[args.isa]
    cpus = args.cpus.split(",")
    print(f"{'of 16 elements':20} instructions  " + "  ".join(f"{cpu:>12}" for cpu in cpus))
    for name in args.kernels:
        loop = hottest_loop(function(objdump, args.build / "libloadstone_static.a", args.isa, name))
        scale = 16 / BLOCKS[args.isa]
        found = "  ".join(f"{cycles(loop, triple, cpu) * scale:12.1f}" for cpu in cpus)
        print(f"{name:20} {len(loop) * scale:12.1f}  {found}")


if __name__ == "__main__":
    main()
