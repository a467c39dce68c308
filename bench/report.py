"""The results as a table for the terminal, a picture, and docs/benchmarks.md."""

from xml.sax.saxutils import escape

LOOP = "best loop by hand"
COLOURS = {"Loadstone": "#2563c9", LOOP: "#8b95a5", "safetensors": "#dd9a4f", "diffusers": "#b97fb0"}


def number(value):
    """Three digits that matter."""
    if value == 0:
        return "0"
    digits = max(0, 2 - len(str(int(abs(value)))) + 1) if abs(value) >= 1 else 3
    return f"{value:.{digits}f}" if abs(value) >= 0.01 else f"{value:.2g}"


def figure(triple, unit):
    """A median and its spread, in a unit that suits it."""
    if unit == "s" and triple[0] < 0.1:
        triple, unit = [value * 1e3 for value in triple], "ms"
    median, low, high = triple
    text = f"{number(median)} {unit}".strip()
    return text if low == high else f"{text} ({number(low)} to {number(high)})"


def target(check):
    return "" if check["at_least"] is None else f"{check['at_least']:g}"


def shown_ratio(ratio):
    return "∞" if ratio is None else f"{ratio:.2f}" if ratio < 100 else f"{ratio:.0f}"


def rows(results):
    for check in results["checks"]:
        ratio = check["ratio"]
        yield [
            check["what"],
            figure(check["ours"], check["unit"]),
            check["beside"],
            figure(check["other"], check["unit"]),
            shown_ratio(ratio),
            target(check),
            check["verdict"],
        ]


HEADINGS = ["what", "Loadstone", "beside", "that", "ratio", "at least", ""]


def aligned(table):
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    )


def measured_rows(results):
    """Every measurement, in the order in which it was made."""
    for name, m in results["measurements"].items():
        last = m["results"][-1]
        nbytes = max(last.get("out_nbytes", 0), m["in_nbytes"], last.get("network_nbytes", 0))
        rate = f"{nbytes / m['median'] / 1e9:.1f}" if nbytes else ""
        peak = f"{last['peak_rss_bytes'] / 1e6:.0f}" if "peak_rss_bytes" in last else ""
        shown = f"{name}: {m['label']}" if m["label"] else name
        yield [shown, figure([m["median"], m["min"], m["max"]], "s"), rate, peak]


MEASURED_HEADINGS = ["measurement", "time", "GB/s", "peak MB"]


def kernel_table(results):
    """Headings and rows: a row for each pair, a column for each instruction set."""
    isas = list(dict.fromkeys(kernel["isa"] for kernel in results["kernels"]))
    found = {(kernel["src"], kernel["dst"]): {} for kernel in results["kernels"]}
    for kernel in results["kernels"]:
        shown = f"{kernel['gbps']:.1f} ({kernel['ratio']:.2f})"
        found[kernel["src"], kernel["dst"]][kernel["isa"]] = shown
    lines = [[src, dst, *(row.get(isa, "") for isa in isas)] for (src, dst), row in found.items()]
    return [["from", "to", *isas], *lines]


def as_text(results):
    parts = [aligned([HEADINGS, *rows(results)]), aligned([MEASURED_HEADINGS, *measured_rows(results)])]
    if results["kernels"]:
        parts.append("kernels, GB/s (of memcpy):\n" + aligned(kernel_table(results)))
    short = sum(check["verdict"] == "short" for check in results["checks"])
    judged = sum(check["verdict"] != "" for check in results["checks"])
    parts.append(f"{judged - short} of {judged} targets reached.")
    return "\n\n".join(parts)


def bars_of(results):
    """(title, [(label, seconds)]) of each group of the picture."""
    found = results["measurements"]
    groups = {}
    for name, m in found.items():
        what, _, which = name.rpartition(", ")
        if "->" not in what:
            continue
        bars = groups.setdefault(what, {})
        if which in ("loadstone", "lds_param_bind"):
            bars["Loadstone"] = m["median"]
        elif which.startswith("loop "):
            bars[LOOP] = min(m["median"], bars.get(LOOP, m["median"]))
        elif which in ("safetensors", "diffusers"):
            bars[which] = m["median"]
    return [
        (what, [(label, bars[label]) for label in COLOURS if label in bars]) for what, bars in groups.items()
    ]


def svg(results):
    groups = bars_of(results)
    left, width, bar, gap = 130, 760, 16, 14
    longest = max((seconds for _, bars in groups for _, seconds in bars), default=1)
    scale = (width - left - 90) / longest
    y, parts = 34, []
    for title, bars in groups:
        parts.append(f'<text x="12" y="{y}" font-weight="600">{escape(title)}</text>')
        y += 8
        for label, seconds in bars:
            length = max(1, seconds * scale)
            size = f'x="{left}" y="{y}" width="{length:.1f}" height="{bar - 3}"'
            shown = escape(figure([seconds] * 3, "s"))
            parts.append(f'<text x="{left - 8}" y="{y + 11}" text-anchor="end">{escape(label)}</text>')
            parts.append(f'<rect {size} rx="2" fill="{COLOURS[label]}"/>')
            parts.append(f'<text x="{left + length + 6:.1f}" y="{y + 11}">{shown}</text>')
            y += bar
        y += gap + 14
    size = f'width="{width}" height="{y}" viewBox="0 0 {width} {y}"'
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12" fill="#222">'
    )
    return "\n".join([head, '<rect width="100%" height="100%" fill="#fff"/>', *parts, "</svg>", ""])


def markdown(headings, lines):
    def line(cells):
        return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(headings), "|" + " --- |" * len(headings), *map(line, lines)])


DOCS = """# Benchmarks

Written by `./dev bench --docs` from the results of one run; nothing here is edited by hand. Run `./dev bench`
for the figures of another machine.

![seconds for each load]({svg})

## Where
{machine}

## Loadstone, its targets, and others
A ratio is the other's figure over Loadstone's: above 1, Loadstone takes less. Targets are in the column *at
least*; rows without one only show.

{checks}

{model}
Every figure is the median of {rounds} runs, with the least and the greatest, each a process of its own, the
measurements of a group taking turns. Runs are hot: before each, the kernel confirms that the file's pages are
all in its cache, and a run that went to the disk is thrown away. Before a run that takes new memory, another
process has touched as much, so that a virtual machine's host has it at hand.

- *Loadstone* opens the file, builds the network, and loads it; timed in C, through the public header
  (`bench/load_bench.c`). *Used memory* is the caller's own, through `lds_param_bind` or an `lds_allocator`.
- The *best loop* is the fastest of some forty loops written by hand for this one purpose (`bench/limits.c`):
  pread and convert with all processors, over page sizes, block sizes, ways of sharing, kinds of stores, and
  kernels. It knows the one extent to read and its dtype beforehand.
- The other loaders are timed without the import of their packages (`bench/peers.py`). Where they map the
  file, a touch of every page is counted, since Loadstone's pages are present when it returns.

## Every measurement
GB/s counts the larger of what is read and what is written.

{measured}
"""

KERNELS = """
## Conversion kernels
GB/s of one thread, bytes read and written together, with data that fits into the second-level cache; in
brackets the share of what memcpy reaches there.

{kernels}
"""


def write_svg(results, path):
    path.write_text(svg(results), encoding="utf-8")


def write_docs(results, directory):
    write_svg(results, directory / "benchmarks.svg")
    what = results["machine"] | {f"`{name}`": version for name, version in results["peers"].items()}
    sizes = ", ".join(
        f"{nbytes / 1e9:.2f} GB in {dtype}" for dtype, nbytes in results["model_nbytes"].items()
    )
    few = " of few layers" if results["quick"] else ""
    text = DOCS.format(
        svg="benchmarks.svg",
        machine=markdown(["", ""], what.items()),
        checks=markdown([*HEADINGS[:-1], "verdict"], rows(results)),
        model=f"The model is a CogVideoX transformer{few}: {sizes}.",
        rounds=results["rounds"],
        measured=markdown(MEASURED_HEADINGS, measured_rows(results)),
    )
    if results["kernels"]:
        headings, *lines = kernel_table(results)
        text += KERNELS.format(kernels=markdown(headings, lines))
    (directory / "benchmarks.md").write_text(text, encoding="utf-8")
