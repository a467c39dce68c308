"""The results as a table for the terminal, a picture, and docs/benchmarks.md."""

import math
from xml.sax.saxutils import escape

# Who is drawn, from the top, and in which colour: ours, the machine's limit, others.
BARS = {
    "loadstone": ("Loadstone", "#2563c9"),
    "lds_param_bind": ("Loadstone", "#2563c9"),
    "loadstone, cache": ("Loadstone, cache", "#6f9be3"),
    "loadstone, storing": ("Loadstone, kept", "#6f9be3"),
    "out=, Python": ("Loadstone, Python", "#6f9be3"),
    "loadstone, Python": ("Loadstone, Python", "#6f9be3"),
    "best loop": ("best loop by hand", "#8b95a5"),
    "best direct read": ("the disk", "#8b95a5"),
    "a read for each row": ("a read for each row", "#8b95a5"),
    "ml_dtypes": ("ml_dtypes", "#b97fb0"),
    "safetensors": ("safetensors", "#dd9a4f"),
    "safetensors, NumPy": ("safetensors, NumPy", "#e8c08f"),
    "diffusers": ("diffusers", "#b97fb0"),
    "torch.load": ("torch.load", "#7fae8a"),
    "torch.load, mmap": ("torch.load, mmap", "#a9cbb1"),
    "Run:ai": ("Run:ai", "#c9736b"),
    "fastsafetensors": ("fastsafetensors", "#d9a29c"),
}

# Heading, file of the picture, the groups (with a dot: all that begin so), what is to be known about them.
SECTIONS = [
    (
        "Hot: the files are in the page cache",
        "benchmarks.svg",
        ("machine", "same", "fresh.", "used.", "others.", "cache.", "crowd"),
        """\
Before each run the kernel confirms that the files' pages are all in its cache, and a run that went to the
disk is thrown away; Run:ai and fastsafetensors go to the disk of their own accord. Before a run that takes
new memory, another process has touched as much, so that a virtual machine's host has it at hand, as long as
the kernel does not give it back (the table above says whether it does). A run for which the host had no
processors, more than 2 % of its time, is thrown away, too, here and below.

- *Loadstone* opens the file, builds the network, and loads it; timed in C, through the public header
  (`bench/load_bench.c`). *Python* is `loadstone.load`, and is timed in the same way.
- *Used memory* is the caller's own, touched before: through `lds_param_bind`, an `lds_allocator`, or `out=`;
  `lds_pool` has the memory of the same load before it.
- *Kept from the last load* is the second load with the cache of converted weights.
- The *best loop* is the fastest of some forty loops written by hand for this one purpose (`bench/limits.c`):
  pread and convert with all processors, over page sizes, block sizes, ways of sharing, kinds of stores, and
  kernels. It knows the one extent to read and its dtype beforehand. It was chosen by earlier
  measurements, nine of each of the last three, and is measured anew: the best of several equals was lucky.
  *The same loop, from a mapping* has no copy to make, and dies if somebody cuts the file meanwhile.
- The other loaders (`bench/loaders.py`) are timed without the import of their packages, and followed by `.to`
  (NumPy: `.astype`) where they do not convert. Where they map the file, a touch of every page is counted in
  *every page present*, since Loadstone's pages are present when it returns.""",
    ),
    (
        "Cold: the files are on the disk",
        "benchmarks-cold.svg",
        ("cold.", "disk.", "remote", "store."),
        """\
Before each run the page cache lets go of the files (POSIX_FADV_DONTNEED after a sync), and `mincore`
confirms that not a page is left; a run that reads less than 95 % of them from the disk is thrown away. A
touch of every page is counted for everybody. The file system that takes 5 ms for each read stands for one
behind a network (`bench/slow_fs.c`).

The *best direct read* is the fastest of 70 ways to read the file past the page cache, 1 to 64 requests of
128 KiB to 4 MiB at a time, into buffers of small or huge pages that are used again and again; nothing is
kept. Like the best loop it was chosen by earlier measurements, and is measured anew. Where the disk is a
virtual machine's, its host copies, and faster into buffers that stay in the processor's cache than *into
memory for all of it*. That is memory used before; a load's is new. The fastest of the same ways that *looks
at each cache line*, at one word and no more, shows what it costs to do anything with what was read; the
fastest that also *fills new memory*, with as many bytes as a load writes and always the same, what writing
costs. They tell where the time goes and are no limits: each request has a thread, which is not the fastest
way, and a load may be faster.

*Kept for the next load* is a load that writes its result to the cache of converted weights, and returns when
the disk has it; the file is hot or cold.""",
    ),
    (
        "Headers, many tensors, and Python",
        "benchmarks-python.svg",
        ("open", "many", "huge", "python", "columns", "convert", "inspect"),
        """\
Files of many tensors, and the one of 671 billion parameters, are sparse: real headers, and zeros that take
no room on the disk. Single calls are the median of batches.

Columns are read from a file that is cold. Beside plain reads of one row after the other the kernel reads
ahead, as much as `/sys/block/*/queue/read_ahead_kb` allows: of a disk where that is megabytes, all of the
matrix, which can take less time than the rows alone. *Each row announced* reads those alone, as Loadstone
does.

What converting an array takes at the least, the *best loop by hand* and *memcpy* say, on one thread or on
all, by plain stores or by streaming ones: a target that they miss, too, is out of this machine's reach.""",
    ),
    (
        "Conversion kernels",
        None,
        ("kernels",),
        """\
GB/s of one thread, bytes read and written together, with data that fits into the second-level cache; in
brackets the share of what memcpy reaches there. Of each the best of the rounds.""",
    ),
]


def number(value):
    """Three digits that matter."""
    if value == 0:
        return "0"
    digits = max(0, 2 - len(str(int(abs(value)))) + 1) if abs(value) >= 1 else 3
    return f"{value:.{digits}f}" if abs(value) >= 0.01 else f"{value:.2g}"


def figure(triple, unit):
    """A median and its spread, in a unit that suits it."""
    if unit == "s" and triple[0] < 0.1:
        factor, unit = (1e3, "ms") if triple[0] >= 1e-4 or triple[0] <= 0 else (1e6, "µs")
        triple = [value * factor for value in triple]
    median, low, high = triple
    text = f"{number(median)} {unit}".strip()
    return text if low == high else f"{text} ({number(low)} to {number(high)})"


def target(check):
    return "" if check["at_least"] is None else f"{check['at_least']:g}"


def shown_ratio(ratio):
    """Rounded down: what misses its target does not look as if it had reached it."""
    if ratio is None:
        return "∞"
    return f"{math.floor(ratio * 100) / 100:.2f}" if ratio < 100 else f"{math.floor(ratio)}"


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
        rate = f"{nbytes / m['median'] / 1e9:.1f}" if nbytes > 1e8 else ""
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


def n_judged(groups):
    """How many targets were reached, and how many there are."""
    verdicts = [check["verdict"] for results in groups for check in results["checks"]]
    return verdicts.count("pass"), verdicts.count("pass") + verdicts.count("short")


def as_text(results):
    parts = []
    if results["checks"]:
        parts.append(aligned([HEADINGS, *rows(results)]))
    if results["measurements"]:
        parts.append(aligned([MEASURED_HEADINGS, *measured_rows(results)]))
    if results["kernels"]:
        parts.append("kernels, GB/s (of memcpy):\n" + aligned(kernel_table(results)))
    parts += [f"left out: {who}: {reason}" for who, reason in results["left_out"].items()]
    parts.append("{} of {} targets reached.\n".format(*n_judged([results])))
    return "\n\n".join(parts)


def bars_of(groups):
    """(title, [(label, colour, seconds)]) of each set of bars of a picture."""
    found = {}
    for results in groups:
        for m in results["measurements"].values():
            who = m["who"]
            if who in BARS and m["key"] != "disk_nbytes":
                label, colour = BARS[who]
                bars = found.setdefault(m["what"], {})
                bars[label] = (colour, min(m["median"], bars.get(label, (colour, m["median"]))[1]))
    order = {label: i for i, (label, _) in enumerate(BARS.values())}
    for what, bars in found.items():
        if len(bars) > 1:
            yield what, [(label, *bars[label]) for label in sorted(bars, key=order.get)]


def svg(groups):
    """Horizontal bars, each set to a scale of its own."""
    left, width, bar, y, parts = 150, 760, 16, 28, []
    for title, bars in bars_of(groups):
        scale = (width - left - 80) / max(seconds for _, _, seconds in bars)
        parts.append(f'<text x="12" y="{y}" font-weight="600">{escape(title)}</text>')
        y += 8
        for label, colour, seconds in bars:
            length = max(1, seconds * scale)
            shown = escape(figure([seconds] * 3, "s"))
            parts.append(f'<text x="{left - 8}" y="{y + 11}" text-anchor="end">{escape(label)}</text>')
            parts.append(
                f'<rect x="{left}" y="{y}" width="{length:.1f}" height="{bar - 3}" rx="2" fill="{colour}"/>'
            )
            parts.append(f'<text x="{left + length + 6:.1f}" y="{y + 11}">{shown}</text>')
            y += bar
        y += 28
    y -= 16
    size = f'width="{width}" height="{y}" viewBox="0 0 {width} {y}"'
    style = 'font-family="sans-serif" font-size="12" fill="#222"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>'
    return "\n".join([head, '<rect width="100%" height="100%" fill="#fff"/>', *parts, "</svg>", ""])


def markdown(headings, lines):
    def line(cells):
        return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(headings), "|" + " --- |" * len(headings), *map(line, lines)])


HEAD = """# Benchmarks

Written by `./dev bench --docs` from the results that are saved; nothing here is edited by hand. Run
`./dev bench` for the figures of another machine, and `./dev bench GROUP` for some of them.

A ratio is the other's figure over Loadstone's, rounded down: above 1, Loadstone takes less. Targets are in
the column *at least*; rows without one only show. {reached} of {judged} targets are reached.

Every figure is the median of the rounds of its group, with the least and the greatest, each run a process of
its own, the measurements of a group taking turns in another order each round. The model is a CogVideoX
transformer{few}.

## Where and when
"""


def distinct(groups, key):
    """[(value, [groups that have it])] of what is the same for several groups."""
    found = []
    for results in groups:
        for value, of in found:
            if value == results[key]:
                of.append(results["group"])
                break
        else:
            found.append((results[key], [results["group"]]))
    return found


def n_rounds(results):
    counts = [len(m["results"]) for m in results["measurements"].values()]
    return max(counts + [kernel.get("n_rounds", 1) for kernel in results["kernels"]])


def where_and_when(groups):
    parts = []
    for key in ("machine", "packages"):
        values = distinct(groups, key)
        for value, of in values:
            if len(values) > 1:
                parts.append(f"{', '.join(f'`{name}`' for name in of)}:")
            if value:
                parts.append(markdown([key, ""], value.items()))
    lines = [
        [
            f"`{results['group']}`",
            results["commit"],
            results["date"],
            n_rounds(results),
            f"{results['took_seconds'] / 60:.1f}",
        ]
        for results in groups
    ]
    parts.append(markdown(["group", "commit", "date (UTC)", "rounds", "minutes"], lines))
    reasons = {
        f"- {who}: {reason}": None for results in groups for who, reason in results["left_out"].items()
    }
    if reasons:
        parts.append("Not measured:\n\n" + "\n".join(reasons))
    return parts


def belongs(name, groups):
    return any(name == group or (group.endswith(".") and name.startswith(group)) for group in groups)


def section(heading, picture, notes, groups):
    parts = [f"## {heading}"]
    if picture:
        parts.append(f"![seconds for each]({picture})")
    checks = [row for results in groups for row in rows(results)]
    if checks:
        parts.append(markdown([*HEADINGS[:-1], "verdict"], checks))
    parts.append(notes)
    parts += [
        markdown(headings, lines)
        for headings, *lines in (kernel_table(results) for results in groups if results["kernels"])
    ]
    measured = [row for results in groups for row in measured_rows(results)]
    if measured:
        parts.append("Every measurement; GB/s counts the larger of what is read and what is written:")
        parts.append(markdown(MEASURED_HEADINGS, measured))
    return parts


def write_docs(groups, missing, directory):
    """From the results of groups; the names of those that there are no results of are missing."""
    reached, judged = n_judged(groups)
    few = " of few layers" if any(results["quick"] for results in groups) else ""
    parts = [HEAD.format(reached=reached, judged=judged, few=few).rstrip(), *where_and_when(groups)]
    if missing:
        parts.append("Groups that were not measured: " + ", ".join(f"`{name}`" for name in missing) + ".")
    directory.mkdir(parents=True, exist_ok=True)
    for heading, picture, names, notes in SECTIONS:
        some = [results for results in groups if belongs(results["group"], names)]
        if some:
            parts += section(heading, picture, notes, some)
            if picture:
                (directory / picture).write_text(svg(some), encoding="utf-8")
    (directory / "benchmarks.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
