"""The filter `status_table`: columns that line up, and a sentence per app."""

from ansible_collections.flaskops.emperor.plugins.filter import status_table

PLAN = {"threads": 16, "share": 1000, "why": "4 x 16: profile web."}
NOW = {"workers": 4, "busy": 3, "replaced": 12, "memory": 50 * 1024 * 1024, "killed": 0}
SHOP = {"name": "shop", "release": "3f2a9c01d4e5", "reload": "zerg", "plan": PLAN, "now": NOW}


def test_an_app_is_a_line_and_a_sentence():
    down = {**NOW, "workers": 0, "busy": 0, "replaced": 0, "memory": None, "killed": 0}
    other = {**SHOP, "name": "documentation", "release": "", "reload": "upstream", "now": down}
    assert status_table.status_table([SHOP, other]) == [
        "app            release       reload    workers         memory of its share  replaced",
        "shop           3f2a9c01d4e5  zerg      4 x 16, busy 3  50 of 1000 MiB       12",
        "documentation  none          upstream  0 x 16, busy 0  ? of 1000 MiB        0",
        "shop: 4 x 16: profile web.",
        "documentation: 4 x 16: profile web.",
    ]


def test_without_apps_there_is_a_head():
    assert len(status_table.status_table([])) == 1


def test_ansible_finds_the_filter_by_its_name():
    assert status_table.FilterModule().filters() == {"status_table": status_table.status_table}
