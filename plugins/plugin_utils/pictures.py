"""Pictures of figures as SVG: panels of horizontal bars, two beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

LABEL, BAR, NUMBER, LINE, HEAD = 215, 190, 75, 19, 34
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #333 }
.head { font-weight: bold; font-size: 13px }
.bar { fill: #8a97a6 } .ours { fill: #2a7ab8 } .line { stroke: #999 }
.back { fill: #fff }
@media (prefers-color-scheme: dark) { text { fill: #ddd } .back { fill: #16191d } }
"""

Bar = tuple[str, float, str, bool]  # label, value, text, whether it is one to look at
Panel = tuple[str, Sequence[Bar]]


def panel(title: str, bars: Sequence[Bar], x: int, y: int) -> tuple[list[str], int]:
    """A panel, and where it ends; bars of values below zero go to the left."""
    least, most = min([0, *(bar[1] for bar in bars)]), max([0, *(bar[1] for bar in bars)])
    scale = BAR / ((most - least) or 1)
    zero = x + LABEL - least * scale
    drawn = [f'<text class="head" x="{x}" y="{y + 18}">{escape(title)}</text>']
    for number, (label, value, text, ours) in enumerate(bars):
        top = y + HEAD + number * LINE
        left = zero + min(value, 0) * scale
        kind = "ours" if ours else "bar"
        drawn += [
            f'<text x="{x + LABEL - 8}" y="{top + 11}" text-anchor="end">{escape(label)}</text>',
            f'<rect class="{kind}" x="{left:.1f}" y="{top}" width="{abs(value) * scale:.1f}" height="14"/>',
            f'<text x="{x + LABEL + BAR + 6}" y="{top + 11}">{escape(text)}</text>',
        ]
    bottom = y + HEAD + len(bars) * LINE
    drawn.append(f'<line class="line" x1="{zero:.1f}" x2="{zero:.1f}" y1="{y + HEAD - 4}" y2="{bottom}"/>')
    return drawn, bottom


def picture(panels: Sequence[Panel]) -> str:
    """An SVG of panels, two in a row."""
    drawn: list[str] = []
    y, width = 10, 2 * (LABEL + BAR + NUMBER) + 40
    for first in range(0, len(panels), 2):
        bottoms = []
        for column, (title, bars) in enumerate(panels[first : first + 2]):
            lines, bottom = panel(title, bars, 10 + column * (width // 2), y)
            drawn += lines
            bottoms.append(bottom)
        y = max(bottoms) + 14
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y}" width="{width}" height="{y}">'
    back = '<rect class="back" width="100%" height="100%"/>'
    return "\n".join([head, f"<style>{STYLE}</style>", back, *drawn, "</svg>\n"])
