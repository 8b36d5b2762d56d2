"""The page of a benchmark: one HTML file that needs nothing else, and its lines for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ansible_collections.flaskops.emperor.plugins.plugin_utils.benchmark import verdict
from ansible_collections.flaskops.emperor.plugins.plugin_utils.benchmark.verdict import MIB, Setting
from ansible_collections.flaskops.emperor.plugins.plugin_utils.pictures import Panel, picture

STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 66rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse } td, th { padding: .2rem .8rem; text-align: right }
th { border-bottom: 1px solid } td:first-child, th:first-child { text-align: left } .picked { font-weight: bold }
svg { max-width: 100%; height: auto }
"""
HEAD = ("workers", "at a time", "requests/s", "difference", "50 % within", "95 % within", "processors busy", "memory")


def rows(found: Sequence[Setting], served: str) -> list[tuple[str, ...]]:
    """Each of the workers at its best."""
    now = next(one for one in found if one.name == served).best.rate
    return [
        (
            f"{one.name} (now)" if one.name == served else one.name,
            str(one.best.at_a_time),
            f"{one.best.rate:.0f}",
            f"{one.best.rate / now - 1:+.0%}" if now and one.name != served else "",
            f"{one.best.p50:.0f} ms",
            f"{one.best.p95:.0f} ms",
            f"{one.best.busy:.0%}",
            f"{one.memory / MIB:.0f} MiB" if one.memory else "",
        )
        for one in found
    ]


def panels(found: Sequence[Setting], served: str) -> list[Panel]:
    """The pictures: workers against each other, and for the recommended ones the requests at a time."""
    best = verdict.chosen(found, served)
    return [
        ("requests/s, by workers", [(f"{one.name} with {one.best.at_a_time} at a time", one.best.rate,
                                     f"{one.best.rate:.0f}", one is best) for one in found]),
        ("95 of 100 within, ms, by workers", [(f"{one.name} with {one.best.at_a_time} at a time", one.best.p95,
                                               f"{one.best.p95:.0f}", one is best) for one in found]),
        (f"{best.name}: requests/s, by requests at a time", [(str(one.at_a_time), one.rate, f"{one.rate:.0f}",
                                                              one == best.best) for one in best.steps]),
        (f"{best.name}: 95 of 100 within, ms, by requests at a time", [(str(one.at_a_time), one.p95, f"{one.p95:.0f}",
                                                                       one == best.best) for one in best.steps]),
    ]  # fmt: skip


def about(options: Mapping[str, Any], answer: Mapping[str, Any], host: str) -> str:
    """What was measured."""
    rounds = f"{options['rounds']} round{'s' if options['rounds'] > 1 else ''}"
    return (
        f"{options['name']} on {host}, release {answer['release']}, GET {options['path']}: {answer['processors']} "
        f"processors, {rounds} of {options['seconds']:g} s per step, in instances beside the one that serves."
    )


def warnings(answer: Mapping[str, Any]) -> list[str]:
    """What a reader must know of this run."""
    told = [f"{size} was not measured: it {why}." for size, why in answer["left_out"].items()]
    if answer["switched"]:
        told.append("Another release took over meanwhile: measure again.")
    return told


def lines(options: Mapping[str, Any], answer: Mapping[str, Any], host: str) -> list[str]:
    """For the terminal."""
    found, served = verdict.settings(answer["measured"]), answer["served"]
    table = [HEAD, *rows(found, served)]
    widths = [max(len(row[column]) for row in table) for column in range(len(HEAD))]
    shown = ["  ".join(cell.rjust(width) if column else cell.ljust(width)
                       for column, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip()
             for row in table]  # fmt: skip
    return [about(options, answer, host), "", *shown, "", *verdict.reasons(found, served), *warnings(answer)]


def page(options: Mapping[str, Any], answer: Mapping[str, Any], host: str) -> str:
    """The page."""
    found, served = verdict.settings(answer["measured"]), answer["served"]
    best = verdict.chosen(found, served)
    title = f"Benchmark of {options['name']}"

    def listed(sentences: Sequence[str]) -> str:
        return "<ul>" + "".join(f"<li>{escape(one)}</li>" for one in sentences) + "</ul>"

    def cells(row: Sequence[str]) -> str:
        return "".join(f"<td>{escape(cell)}</td>" for cell in row)

    body = "".join(
        f'<tr class="{"picked" if one is best else ""}">{cells(row)}</tr>'
        for one, row in zip(found, rows(found, served), strict=True)
    )
    head = "".join(f"<th>{escape(cell)}</th>" for cell in HEAD)
    return "\n".join([
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>',
        '<meta name="viewport" content="width=device-width">', f"<style>{STYLE}</style>",
        f"<h1>{escape(title)}</h1><p>{escape(about(options, answer, host))}</p>",
        "<h2>Recommendation</h2>", listed([*verdict.reasons(found, served), *warnings(answer)]),
        f"<h2>Workers at their best</h2><table><tr>{head}</tr>{body}</table>",
        picture(panels(found, served)),
        "<h2>What the numbers do not show</h2>", listed(verdict.limits(found)), "</html>\n",
    ])  # fmt: skip
