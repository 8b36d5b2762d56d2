"""Side processes and schedules in metrics, on the host, and in the logs."""

import time

from conftest import until

PULSE, TICK = 'app="desk",name="pulse"', 'app="desk",name="tick"'
STUCK = "/srv/flask_apps/desk/shared/stuck"
UNITS = "systemctl list-units --plain --no-legend 'emperor-side-desk.pulse@*' | cut -d ' ' -f 1"


def test_background_process_runs_and_its_restart_is_counted(host, metrics):
    before = metrics(host)
    assert before["emperor_side_processes"][PULSE] == before["emperor_side_processes_running"][PULSE] == 1
    host.check_output(f"systemctl kill --signal=KILL $({UNITS})")
    assert until(lambda: metrics(host)["emperor_side_processes_running"][PULSE] == 0), "its absence is not told"
    after = until(lambda: (told := metrics(host))["emperor_side_processes_running"][PULSE] == 1 and told)
    restarts = [told["emperor_side_process_restarts_total"][PULSE] for told in (before, after)]
    assert restarts[1] == restarts[0] + 1


def test_job_on_a_schedule_tells_its_last_success_and_a_failure(host, metrics):
    told = until(lambda: (found := metrics(host)).get("emperor_schedule_success_timestamp_seconds") and found)
    assert time.time() - told["emperor_schedule_success_timestamp_seconds"][TICK] < 60
    assert (told["emperor_schedule_active"][TICK], told["emperor_schedule_failed"][TICK]) == (1, 0)
    host.check_output(f"touch {STUCK}")
    try:
        failed = until(lambda: (found := metrics(host))["emperor_schedule_failed"][TICK] == 1 and found)
        shown = host.run("emperor-status")
    finally:
        host.check_output(f"rm {STUCK}")
    succeeded, began = (failed[f"emperor_schedule_{what}_timestamp_seconds"][TICK] for what in ("success", "start"))
    assert succeeded < began
    assert "! tick FAILED when it last ran" in shown.stdout
    assert shown.rc == 1
    assert until(lambda: metrics(host)["emperor_schedule_failed"][TICK] == 0)


def test_status_on_the_host_shows_side_processes(host):
    told = until(
        lambda: (seen := host.run("emperor-status")).rc == 0 and "last success 2" in seen.stdout and seen.stdout
    )
    (line,) = [line for line in told.splitlines() if line.startswith("side processes of desk: ")]
    assert "pulse 1 of 1 run" in line
    assert "tick waits, last success 2" in line


def test_logs_show_what_side_processes_say(playbook):
    run = playbook("logs", "-e", "app=desk", "-e", "since=1h")
    assert not run.failed, run.output
    for line in ("desk journal pulse: beats", "desk journal tick: ticks"):
        assert line in run.output
