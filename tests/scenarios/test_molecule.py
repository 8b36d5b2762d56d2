"""Every Molecule scenario is one test; a failure shows the part of its output that matters."""

import queue
import re

import pytest
from lanes import STAGES  # type: ignore[import-not-found]  # as in conftest.py


def what_failed(lines):
    """The end of the step that failed; Molecule's clean-up after it is of no interest."""
    end = next((n for n, line in enumerate(lines) if "Executed: Failed" in line), len(lines))
    return "\n".join(lines[max(0, end - 80) : end + 1])


@pytest.mark.parametrize("scenario", [name for stage in STAGES for name in stage])
def test_scenario(scenario, lanes, capfd):
    outcome = lanes.outcome(scenario)
    while not (outcome.done() and lanes.said.empty()):
        try:
            text = lanes.said.get(timeout=0.5)
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
