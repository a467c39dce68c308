"""What the numbers were made on and with."""

import os
import platform
import re
import subprocess
from pathlib import Path

PACKAGES = (
    "torch",
    "safetensors",
    "diffusers",
    "transformers",
    "accelerate",
    "runai-model-streamer",
    "fastsafetensors",
    "numpy",
    "ml_dtypes",
)


def read(path):
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def first(pattern, text, otherwise="unknown"):
    match = re.search(pattern, text, re.MULTILINE)
    return match[1].strip() if match else otherwise


def cpu_name():
    name = first(r"^model name\s*:(.*)", read("/proc/cpuinfo"), "")
    if name:
        return name
    run = subprocess.run(["lscpu"], stdout=subprocess.PIPE, text=True, check=False)
    return first(r"^Model name:(.*)", run.stdout)


def file_system(path):
    """The type of the file system that path lies on."""
    best, kind = "", "unknown"
    for line in read("/proc/mounts").splitlines():
        _, mount, mounted_kind = line.split()[:3]
        if len(mount) >= len(best) and Path(path).is_relative_to(mount):
            best, kind = mount, mounted_kind
    return kind


def given_back(is_virtual):
    """What the kernel of a virtual machine gives back to the host as soon as it is free."""
    order = read("/sys/module/page_reporting/parameters/page_reporting_order").strip()
    return f"blocks of 2^{order} pages and more" if is_virtual and order.isdigit() else "nothing"


def describe(work):
    kib = int(first(r"^MemTotal:\s*(\d+)", read("/proc/meminfo"), "0"))
    flags = first(r"^(?:flags|Features)\s*:(.*)", read("/proc/cpuinfo"), "").split()
    is_virtual = "hypervisor" in flags
    return {
        "processor": cpu_name(),
        "processors": len(os.sched_getaffinity(0)),
        "instruction sets": " ".join(flag for flag in ("avx2", "f16c", "avx512f", "asimd") if flag in flags),
        "virtual machine": "yes" if is_virtual else "no",
        "memory": f"{kib / (1 << 20):.0f} GiB",
        "given to the host when free": given_back(is_virtual),
        "huge pages": first(r"\[(\w+)\]", read("/sys/kernel/mm/transparent_hugepage/enabled")),
        "file system": file_system(work),
        "kernel": first(r"([\d.]+)", platform.release()),
    }


def packages(python):
    """Name and version of each package that was measured beside; the Python's own, too."""
    if not python:
        return {}
    code = """
import importlib.metadata, platform, sys
print("Python", platform.python_version())
for name in sys.argv[1:]:
    try: print(name, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError: pass"""
    run = subprocess.run([python, "-c", code, *PACKAGES], stdout=subprocess.PIPE, text=True, check=True)
    return dict(line.split() for line in run.stdout.splitlines())
