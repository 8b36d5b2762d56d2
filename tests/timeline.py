"""A picture of a load: how many requests each release answered, moment by moment."""

from __future__ import annotations

import math
from collections import Counter
from xml.sax.saxutils import escape

from load_report import NO_RELEASE, Report  # type: ignore[import-not-found]  # pytest puts this directory in sys.path

WIDTH, HEIGHT = 900, 260
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 64, 40
STEP = 0.25  # seconds a column
COLOURS = ("#1f9e80", "#d1730a", "#5b7fe0", "#c2487a", "#8a63d2")
FAILED = "#c1121f"
STYLE = """text{font:13px system-ui,sans-serif;fill:#14213d}.axis{stroke:#8a8f9c}
@media(prefers-color-scheme:dark){text{fill:#eef1f8}.axis{stroke:#76829c}}"""


def columns(report: Report) -> tuple[dict[int, Counter[int]], int]:
    """Count the requests that ended in each step of time, by release; and how many steps there are."""
    ends = [begun + took for begun, took in zip(report.begun, report.took, strict=True)]
    first = min(ends)
    counted: dict[int, Counter[int]] = {}
    for end, release in zip(ends, report.release, strict=True):
        counted.setdefault(release, Counter())[int((end - first) / STEP)] += 1
    return counted, int((max(ends) - first) / STEP) + 1


def draw(report: Report, title: str) -> str:
    """Draw a report with at least one request as SVG."""
    counted, steps = columns(report)
    highest = max(sum(counter[step] for counter in counted.values()) for step in range(steps))
    wide, high = (WIDTH - LEFT - RIGHT) / steps, (HEIGHT - TOP - BOTTOM) / highest
    names = dict(enumerate(report.releases)) | {NO_RELEASE: "failed"}
    colours = {number: COLOURS[number % len(COLOURS)] for number in names} | {NO_RELEASE: FAILED}
    bars, stacked = [], Counter[int]()
    for release, counter in sorted(counted.items()):
        for step, count in sorted(counter.items()):
            stacked[step] += count
            x, y = LEFT + step * wide, HEIGHT - BOTTOM - stacked[step] * high
            bars.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.2f}" height="{count * high:.1f}" '
                        f'fill="{colours[release]}"/>')  # fmt: skip
    legend, x = [], LEFT
    for release, counter in sorted(counted.items()):
        label = f"{names[release]}: {counter.total()}"
        legend.append(f'<rect x="{x}" y="36" width="12" height="12" fill="{colours[release]}"/>'
                      f'<text x="{x + 18}" y="47">{escape(label)}</text>')  # fmt: skip
        x += 34 + 8 * len(label)
    ticks = []
    every = max(1, math.ceil(steps * STEP / 10))
    for second in range(0, math.ceil(steps * STEP), every):
        x = int(LEFT + second / STEP * wide)
        ticks.append(f'<text x="{x}" y="{HEIGHT - BOTTOM + 18}">{second} s</text>')
    axis = f'<path class="axis" d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>'
    scale = f'<text x="{LEFT - 8}" y="{TOP + 10}" text-anchor="end">{highest / STEP:.0f}/s</text>'
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
        f'<text x="{LEFT}" y="22" font-weight="600">{escape(title)}</text>',
        *legend, axis, scale, *ticks, *bars, "</svg>\n",
    ])  # fmt: skip
