"""What it costs when something dies, in each reload mode. No test: it fails only when it cannot be measured."""

import time

import pytest
from figures import keep, targets_of, window
from load_report import KINDS
from modes import LATE_CRASH, MODES

VISITORS = dict.fromkeys(KINDS, 1) | {"get_keep": 2}
MASTER = "pgrep -P $(systemctl show -P MainPID emperor-app@{app}) -u {app}"
ONE_WORKER = f"for m in $({MASTER}); do pgrep -P $m -f uwsgi | head -1; done"
ALL_WORKERS = f"for m in $({MASTER}); do pgrep -P $m -f uwsgi; done"
EACH = {
    "kill -9 of one worker": f"kill -9 $({ONE_WORKER})",
    "kill -9 of all workers": f"kill -9 $({ALL_WORKERS})",
    "kill -9 of the master": f"kill -9 $({MASTER})",
    "kill -9 of the socket holder": "kill -9 $(systemctl show -P MainPID emperor@{app}.service)",
}
ONCE = {
    "kill -9 of the Emperor": "kill -9 $(systemctl show -P MainPID emperor-app@{app})",
    "restart of the Emperor": "systemctl restart emperor",
    "reload of the Emperor": "systemctl reload emperor",
    "reload of nginx": "systemctl reload nginx",
}


@pytest.mark.parametrize("mode", MODES)
def test_late_fault(mode, apps, variant, playbook, clients):
    with clients([mode], VISITORS, pause=0.05) as load:
        broken = variant(apps[mode], {"shop/__init__.py": LATE_CRASH})
        assert playbook("deploy", "-e", f"app={mode}", variables={"flask_apps": [broken]}).failed
        time.sleep(2)
    print(load.report)
    keep("late fault", mode, window(load.report, targets_of(load.report, mode)))


@pytest.mark.parametrize("fault", EACH | ONCE)
def test_faults(fault, clients, fleet, instances):
    with clients(kinds=VISITORS, pause=0.1) as load:
        time.sleep(1)
        for host in fleet:
            for command in [EACH[fault].format(app=mode) for mode in MODES] if fault in EACH else [ONCE[fault]]:
                host.check_output(command)
        time.sleep(15)
    print(load.report)
    for host in fleet:
        for mode in MODES:
            assert list(instances(host, mode).values()) == [4], (host.backend.name, mode)
    for mode in MODES:
        keep(fault, mode, window(load.report, targets_of(load.report, mode)))
