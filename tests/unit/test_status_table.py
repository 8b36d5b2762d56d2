"""The filter `status_table`: columns that line up, and a sentence per app."""

from ansible_collections.flaskops.emperor.plugins.filter import status_table

WORKERS = {"threads": 16, "share": 1000, "why": "4 x 16: profile web."}
APP = {"current": "3f2a9c01d4e5", "reload": "zerg", "workers": WORKERS}
NOW = {"workers": 4, "busy": 3, "replaced": 12, "memory": 50 * 1024 * 1024, "killed": 0}


def now(name, **more):
    return {**NOW, "item": {"name": name}, **more}


def test_app_is_a_line_and_a_sentence():
    down = now("documentation", workers=0, busy=0, replaced=0, memory=None)
    apps = {"shop": APP, "documentation": {**APP, "current": "", "reload": "upstream"}}
    assert status_table.status_table([now("shop"), down], apps) == [
        "app            release       reload    workers         memory of its share  replaced",
        "shop           3f2a9c01d4e5  zerg      4 x 16, busy 3  50 of 1000 MiB       12",
        "documentation  none          upstream  0 x 16, busy 0  ? of 1000 MiB        0",
        "shop: 4 x 16: profile web.",
        "documentation: 4 x 16: profile web.",
    ]


def test_processes_that_the_kernel_killed_are_told():
    lines = status_table.status_table([now("shop", killed=2)], {"shop": APP})
    assert lines[-1] == "shop: the kernel killed 2 of its processes at its limit of 1000 MiB."


def test_without_apps_there_is_a_head():
    assert len(status_table.status_table([], {})) == 1


def test_ansible_finds_the_filter_by_its_name():
    assert status_table.FilterModule().filters() == {"status_table": status_table.status_table}
