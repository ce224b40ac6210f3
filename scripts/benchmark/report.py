"""Tables, JSON and the chart."""

import datetime
import json
import math
import os
import pathlib
import platform
import statistics

from . import workloads

REFERENCE = "gocryptfs"
FUSE = "passthrough_ll cached"
WIDTH, BAR, LABEL = 900, 16, 270


def write(results, backing, sizes, output):
    output.mkdir(parents=True, exist_ok=True)
    described = {"machine": machine(), "backing": backing, "sizes": sizes, "runs": results}
    stem = output / f"bench-{'dir' if '/' in backing else backing}"
    stem.with_suffix(".json").write_text(json.dumps(described, indent=1) + "\n")
    text = "\n".join(table(result, backing) for result in results)
    stem.with_suffix(".md").write_text(text)
    stem.with_suffix(".svg").write_text(chart(results[0], backing))
    print(text)
    print(f"written: {stem}.json, {stem}.md, {stem}.svg")


def machine():
    cpu = next((line.split(":")[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.processor())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    return {"cpu": cpu, "cores": os.cpu_count(), "memory_gib": memory, "kernel": platform.release(),
            "date": datetime.date.today().isoformat()}


def ratios(result):
    """Of speed: {workload: {system: times as fast as the reference}}, and of kmsfs to FUSE without encryption."""
    answer = {}
    for name, times in result["seconds"].items():
        median = {system: statistics.median(values) for system, values in times.items() if values}
        if REFERENCE in median:
            answer[name] = {system: median[REFERENCE] / value for system, value in median.items() if value > 0}
    return answer


def table(result, backing):
    systems = [name for name in next(iter(result["seconds"].values())) if name != REFERENCE]
    which = "all cores" if result["cores"] == "all" else "everything on one core"
    lines = [f"### {backing}, {which}, median of {result['rounds']}", "",
             "| workload | " + " | ".join(systems) + " | kmsfs to passthrough_ll cached | kmsfs, seconds | spread |",
             "| --- |" + " ---: |" * (len(systems) + 3)]
    of = ratios(result)
    for phase in workloads.PHASES:
        if phase.name not in of:
            continue
        row, times = of[phase.name], result["seconds"][phase.name].get("kmsfs", [])
        to_fuse = f"{row['kmsfs'] / row[FUSE]:.2f}" if {"kmsfs", FUSE} <= set(row) else ""
        middle = statistics.median(times) if times else 0
        spread = f"{(max(times) - min(times)) / middle * 100:.0f} %" if middle else ""
        cells = [f"{row[name]:.2f}" if name in row else "" for name in systems]
        lines.append(f"| {phase.title} | " + " | ".join(cells) + f" | {to_fuse} | {middle:.3f} | {spread} |")
    everyone = [*systems, REFERENCE]
    lines += ["", "Peak memory of the daemon, MiB: " + used(result["memory"], everyone, 1 << 20) + ".",
              "", "CPU seconds of the daemon, a round: " + used(result["cpu"], everyone, 1) + ".", ""]
    return "\n".join(lines)


def used(values, systems, unit):
    return ", ".join(f"{name} {values[name] / unit:.0f}" for name in systems if values.get(name))


def chart(result, backing):
    """Bars: how many times as fast as gocryptfs, on a logarithmic scale, so that twice and half are as long."""
    of, shown = ratios(result), ["kmsfs", FUSE]
    rows = [phase for phase in workloads.PHASES if phase.name in of]
    height = 60 + len(rows) * (BAR * len(shown) + 8)
    scale = (WIDTH - LABEL - 60) / 6  # from a quarter to sixteen times

    def across(ratio):
        return LABEL + scale * (math.log2(min(max(ratio, 0.25), 16)) + 2)

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="12">',
             f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
             f'<text x="10" y="20" font-size="14">Times as fast as gocryptfs, {backing}: '
             '<tspan fill="#1f6fb2">kmsfs</tspan>, <tspan fill="#999">passthrough_ll, no encryption</tspan></text>']
    for tick in (0.25, 0.5, 1, 2, 4, 8, 16):
        x = across(tick)
        colour = "#000" if tick == 1 else "#ddd"
        parts.append(f'<line x1="{x:.0f}" y1="40" x2="{x:.0f}" y2="{height - 10}" stroke="{colour}"/>'
                     f'<text x="{x:.0f}" y="36" text-anchor="middle">{tick:g}</text>')
    y = 46
    for phase in rows:
        parts.append(f'<text x="{LABEL - 8}" y="{y + BAR + 2}" text-anchor="end">{phase.title}</text>')
        for name, colour in zip(shown, ("#1f6fb2", "#bbb")):
            if name in of[phase.name]:
                ratio = of[phase.name][name]
                left, right = sorted((across(1), across(ratio)))
                parts.append(f'<rect x="{left:.1f}" y="{y}" width="{max(right - left, 1):.1f}" height="{BAR - 2}" fill="{colour}"/>'
                             f'<text x="{right + 4:.1f}" y="{y + BAR - 4}">{ratio:.2f}</text>')
            y += BAR
        y += 8
    return "\n".join([*parts, "</svg>", ""])
