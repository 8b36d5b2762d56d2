"""Every Molecule scenario is one test: fresh hosts, converge, idempotence, testinfra, destroy.

Most of them wait half of their time, so three run side by side; those that need the machine to themselves come last.
The whole output goes to .cache/scenarios/NAME.log; a failure shows the part that matters.
"""

import os
import queue
import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOGS = ROOT / ".cache/scenarios"
# Not those with commands of their own: vm is slow without KVM (make test-vm), bench tests nothing (make bench).
SCENARIOS = sorted({path.parent.name for path in ROOT.glob("molecule/*/molecule.yml")} - {"vm", "bench"})
# Those that put their hosts under load; reload_modes does, too, but mostly waits for requests to end.
ALONE = [name for name in SCENARIOS if name in ("faults", "requests", "workers")]
LONG = [name for name in ("reload_modes", "doctor") if name in SCENARIOS]
BESIDE = [*LONG, *(name for name in SCENARIOS if name not in [*ALONE, *LONG])]
LANES = 3
STEP = re.compile(r"^INFO .* > (\w+)\] Executing$")


def run(scenario, say):
    """Run a scenario, telling `say` where it is; return its exit code and the lines of its output."""
    settings = {
        "ANSIBLE_NOCOLOR": "1",
        "COLUMNS": "160",
        "MOLECULE_COMMAND_BORDERS": "false",
        "NO_COLOR": "1",
        "PYTHONUNBUFFERED": "1",
    }
    command = ["molecule", "test", "--scenario-name", scenario]
    started = time.monotonic()
    lines = []
    LOGS.mkdir(parents=True, exist_ok=True)
    with (
        open(LOGS / f"{scenario}.log", "w", encoding="utf-8") as log,
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | settings,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        for line in process.stdout or ():
            log.write(line)
            log.flush()
            lines.append(line.rstrip())
            if step := STEP.search(lines[-1]):
                say(f"{time.monotonic() - started:6.0f} s  {scenario}: {step[1]}")
    return process.returncode, lines


def what_failed(lines):
    """The end of the step that failed; Molecule's clean-up after it is of no interest."""
    end = next((n for n, line in enumerate(lines) if "Executed: Failed" in line), len(lines))
    return "\n".join(lines[max(0, end - 80) : end + 1])


@pytest.fixture(scope="session")
def running(request):
    """Those of BESIDE that were chosen, on their way, by name; what they say is in the queue."""
    tests = [item for item in request.session.items if item.path == Path(__file__)]
    chosen = {item.callspec.params["scenario"] for item in tests}
    said: queue.Queue[str] = queue.Queue()
    with ThreadPoolExecutor(LANES) as pool:
        yield said, pool, {name: pool.submit(run, name, said.put) for name in BESIDE if name in chosen}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("scenario", [*BESIDE, *ALONE])
def test_scenario(scenario, running, capfd):
    said, pool, beside = running
    # The others come when all of these have ended.
    outcome = beside.get(scenario) or pool.submit(run, scenario, said.put)
    while not (outcome.done() and said.empty()):
        try:
            text = said.get(timeout=0.5)
        except queue.Empty:
            continue
        with capfd.disabled():
            print(f"\n{text}", end="", flush=True)
    code, lines = outcome.result()
    where = f"the whole output: .cache/scenarios/{scenario}.log"
    if code != 0:
        pytest.fail(f"{what_failed(lines)}\n\n{where}", pytrace=False)
    # Molecule calls it a success when there is nothing to verify.
    assert any(re.search(r"=+ \d+ passed", line) for line in lines), f"no testinfra test ran; {where}"
