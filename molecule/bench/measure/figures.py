"""The figures of docs/bench.md: kept in docs/bench.json, shown as tables in the page and as pictures beside it."""

import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from ansible.plugins.loader import init_plugin_loader
from servers import BASELINE, BESIDE, LEAK_MB, MODEL_MB, RAW, WAIT, WORKLOADS

PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
init_plugin_loader([str(PROJECT / ".config/collections")])
from ansible_collections.flaskops.emperor.plugins.plugin_utils.pictures import picture  # noqa: E402

DOCS = PROJECT / "docs"
KEPT, PAGE = DOCS / "bench.json", DOCS / "bench.md"
ERRORS = ("status", "connect", "read", "write", "timeout")


def keep(measurement, found):
    """Keep what was found, and show all there is."""
    kept = json.loads(KEPT.read_text())
    kept[measurement] = found
    write(kept)
    show(kept)


def write(kept):
    """Keep all figures; each load and each small group takes one line."""
    text = json.dumps(kept, indent=1)
    KEPT.write_text(re.sub(r"[{\[][^][{}]*[]}]", lambda found: " ".join(found[0].split()), text) + "\n")


def keep_machine(bench, rounds):
    """Where and with what it is measured. It begins a measurement, so figures of an earlier one go."""
    host = bench.host
    packages = {}
    # The virtualenv of a release has no pip of its own.
    for pip in ("/opt/bench/bin/pip", "/opt/bench/bin/pip --python=/srv/flask_apps/web/current/venv/bin/python"):
        packages |= {one["name"].lower(): one["version"] for one in json.loads(
            host.check_output(f"{pip} list --disable-pip-version-check --format json"))}  # fmt: skip
    versions = {name: packages[name] for name in ("pyuwsgi", "flask", "granian", "gunicorn", "waitress")}
    versions |= {
        "Python": host.check_output("python3 --version").split()[1],
        "nginx": re.search(r"[0-9.]+", host.run("nginx -v").stderr)[0],
        "fcgiwrap": host.check_output("dpkg-query --show --showformat '${Version}' fcgiwrap"),
        "wrk": host.check_output("dpkg-query --show --showformat '${Version}' wrk"),
    }
    machine = {
        "date": datetime.now(UTC).date().isoformat(),
        "rounds": rounds,
        "processors": int(host.check_output("nproc")),
        "model": host.check_output("sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1"),
        "memory_mib": int(re.search(r"MemTotal: +(\d+)", host.file("/proc/meminfo").content_string)[1]) // 1024,
        "kernel": re.match(r"[0-9.]+", host.check_output("uname -r"))[0].rstrip("."),
        "system": re.search(r'^PRETTY_NAME="(.*)"$', host.file("/etc/os-release").content_string, re.MULTILINE)[1],
        "versions": versions,
    }
    write({"machine": machine})


def rate(one, workload):
    """The median of the rounds; None if it was not measured."""
    return median(load["rate"] for load in one[workload]) if one.get(workload) else None


def failed(loads):
    """Requests that failed, and what they were of."""
    return sum(load.get(error, 0) for load in loads for error in ERRORS), sum(load["requests"] for load in loads)


def ideal(one):
    """The most requests of the workload `wait` that the server can answer in a second."""
    return min(one["slots"], WORKLOADS["wait"].connections) / WAIT


def size(number):
    """A number as a person reads it: no more digits than mean something."""
    return f"{number:,.0f}" if number >= 10 else f"{number:.1f}"


def cell(one, workload):
    """A figure of the table, with what failed."""
    found = rate(one, workload)
    if found is None:
        return ""
    text = size(found)
    if workload == "wait":
        text += f" ({found / ideal(one):.0%})"
    lost, total = failed(one[workload])
    return f"{text}, **{lost} of {total} failed**" if lost else text


def quick(kept, title, when):
    """The time that 99 of 100 quick requests stayed below, in ms."""
    loads = kept.get("beside", {}).get(title, {}).get(when)
    if not loads:
        return ""
    return size(median(load["p99_ms"] for load in loads)) if all(load["requests"] for load in loads) else "no answer"


def row(cells):
    return "| " + " | ".join(cells) + " |"


def servers_table(kept):
    """One row per server, all its figures in it."""
    memory, leak = kept.get("memory", {}), kept.get("leak", {})
    titles = ["", "at a time", *(f"{workload.title}: {workload.unit}/s" for workload in WORKLOADS.values())]
    titles += ["p99 of quick requests, ms", *(f"beside {one.connections} {one.title}" for one in BESIDE.values())]
    titles += ["memory, MiB", f"with a model of {MODEL_MB} MiB"]
    titles += [f"most while up to {LEAK_MB} MiB leak"] if leak else []
    lines = [row(titles), "|---" + "|---:" * (len(titles) - 1) + "|"]
    for title, one in kept["servers"].items():
        cells = [title, str(one["slots"]), *(cell(one, workload) for workload in WORKLOADS)]
        cells += [quick(kept, title, when) for when in ("alone", *BESIDE)]
        cells += [str(memory[title][model]["most"]) if title in memory else "" for model in ("without", "with")]
        if title in leak:
            lost, total = failed([leak[title]["load"]])
            text = f"{leak[title]['most']} of {leak[title]['leaked']} leaked"
            cells.append(f"{text}, **{lost} of {total} failed**" if lost else text)
        lines.append(row(cells))
    return lines


def changes(kept, workload):
    """By how much a setting changes a figure, by the settings' names: the median over the rounds, in each of which the
    baseline was asked right before."""
    return {
        title: median(load["rate"] / load["base"] for load in one[workload]) - 1
        for title, one in kept["settings"].items()
        if title != BASELINE and one.get(workload)
    }


def settings_table(kept):
    """The baseline's figures, and the difference that each setting makes."""
    titles = ["", *(f"{workload.title}: {workload.unit}/s" for workload in WORKLOADS.values()), "memory, MiB"]
    titles += [f"p99 of quick requests beside {BESIDE['computing'].connections} that compute, ms"]
    lines = [row(titles), "|---" + "|---:" * (len(titles) - 1) + "|"]
    different = {workload: changes(kept, workload) for workload in WORKLOADS}
    for title, one in kept["settings"].items():
        cells = [title]
        if "silent" in one:
            lines.append(row([*cells, "does not answer", *[""] * (len(titles) - 2)]))
            continue
        for workload in WORKLOADS:
            text = cell(one, workload)
            if title in different[workload]:
                lost = text.partition(", **")[2]
                text = f"{different[workload][title]:+.0%}" + (f", **{lost}" if lost else "")
            cells.append(text)
        lines.append(row([*cells, f"{median(one['memory']):.0f}", quick(kept, title, "computing")]))
    return lines


def facts(machine):
    """On what it was measured, in a sentence."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"Measured on {machine['date']}, rounds: {machine['rounds']}. {machine['system']} in a container, Linux "
        f"{machine['kernel']}, {machine['processors']} processors ({machine['model']}) shared with the clients, "
        f"{machine['memory_mib'] / 1024:.0f} GiB of memory. {versions}."
    )


def show(kept):
    """Write the page's tables and the pictures."""
    parts = {"facts": [facts(kept["machine"])]}
    if "servers" in kept:
        parts["servers"] = servers_table(kept)
        DOCS.joinpath("bench_servers.svg").write_text(servers_picture(kept))
    if "settings" in kept:
        parts["settings"] = settings_table(kept)
        DOCS.joinpath("bench_settings.svg").write_text(settings_picture(kept))
    page = PAGE.read_text()
    for name, lines in parts.items():
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        before, _old, after = re.split(f"({begin}.*{end})", page, flags=re.DOTALL)
        page = "\n".join([f"{before}{begin}", *lines, f"{end}{after}"])
    PAGE.write_text(page)


# --- pictures


def servers_picture(kept):
    panels = []
    for name, workload in WORKLOADS.items():
        rates = {title: rate(one, name) for title, one in kept["servers"].items()}
        bars = [(title, value, size(value), title.startswith("ours")) for title, value in rates.items()]
        panels.append((f"{workload.title}: {workload.unit}/s", bars))
    for model, title in {"without": "memory, MiB", "with": f"memory with a model of {MODEL_MB} MiB, MiB"}.items():
        found = {name: one[model]["most"] for name, one in kept.get("memory", {}).items()}
        panels.append((title, [(name, value, str(value), name.startswith("ours")) for name, value in found.items()]))
    leak = {name: one["most"] for name, one in kept.get("leak", {}).items()}
    bars = [(name, value, str(value), name.startswith("ours")) for name, value in leak.items()]
    panels.append((f"most memory while up to {LEAK_MB} MiB leak, MiB", bars))
    return picture([one for one in panels if one[1]])


def settings_picture(kept):
    panels = []
    for name in ("trivial", "page", "wait", "static", "upload"):
        found = {title: value for title, value in changes(kept, name).items() if title != RAW}
        bars = [(title, value, f"{value:+.0%}", False) for title, value in found.items()]
        panels.append((f"{WORKLOADS[name].title}: difference to the baseline", bars))
    return picture(panels)
