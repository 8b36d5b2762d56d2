"""Runs Molecule's scenarios: fresh hosts, converge, idempotence, testinfra, destroy.

Most of them wait half of their time, so three run side by side. Then come those that are about lost requests and exact
times, with only each other beside them, and at last what measures the memory of the whole machine.
The whole output of each goes to .cache/scenarios/NAME.log.
"""

import os
import queue
import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOGS = ROOT / ".cache/scenarios"
# Not those with commands of their own: vm is slow without KVM (make test-vm), the others test nothing (make bench).
SCENARIOS = sorted({path.parent.name for path in ROOT.glob("molecule/*/molecule.yml")} - {"vm", "bench", "bench_runs"})
EXACT, ALONE = ["faults", "requests"], ["memory"]
LONG = ["reload_modes", "doctor", "fleet", "workers"]
BESIDE = [*LONG, *(name for name in SCENARIOS if name not in [*LONG, *EXACT, *ALONE])]
STAGES = (BESIDE, EXACT, ALONE)
LANES = 3
STEP = re.compile(r"^INFO .* > (\w+)\] Executing$")


class Lanes:
    """Scenarios on their way; for use with `with`.

    :param chosen: names of the scenarios to run; those of BESIDE begin at once.
    :ivar said: a queue of lines that tell how far each is.
    """

    def __init__(self, chosen):
        self.said: queue.Queue[str] = queue.Queue()
        self._pool = ThreadPoolExecutor(LANES)
        self._chosen = chosen
        self._outcomes = self._begin(BESIDE)

    def _begin(self, stage):
        return {name: self._pool.submit(run, name, self.said.put) for name in stage if name in self._chosen}

    def outcome(self, scenario):
        """The future of a scenario's exit code and output.

        Ask in the order of STAGES, for those of one when all of the stage before have ended.
        """
        if scenario not in self._outcomes:
            self._outcomes |= self._begin(next(stage for stage in STAGES if scenario in stage))
        return self._outcomes[scenario]

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._pool.shutdown(cancel_futures=True)


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
