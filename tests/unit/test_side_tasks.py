"""How many processes and threads the side processes of an app may have."""

from ansible_collections.flaskops.emperor.plugins.module_utils.sides import states
from ansible_collections.flaskops.emperor.plugins.plugin_utils import vassal_options
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.apps import complete_apps

WORKER = {"command": "rq worker"}
TICK = {"command": "flask tick", "calendar": "daily"}


def app(**changes):
    return complete_apps([{"name": "shop", "app": "shop:app", "source": {"path": "."}, **changes}])[0]


def test_side_processes_count_among_the_tasks_of_the_app_in_steps_that_one_more_rarely_passes():
    plan = {"processes": 4, "threads": 8}

    def tasks(**settings):
        return vassal_options.tasks(app(**settings), plan)

    assert tasks() == tasks(background={"worker": WORKER | {"instances": 3}}) == 512
    assert tasks(background={"worker": WORKER | {"instances": 5}}) == 1024
    assert tasks(background={"worker": WORKER | {"instances": 6}}, schedule={"tick": TICK}) == 1024
    assert tasks(background={"worker": WORKER | {"instances": 50}}, max_tasks=700) == 700


def test_many_processes_of_one_side_process_start_with_the_max_tasks_that_its_message_asks_for():
    """`celery -c 250`, old and new beside each other in a switch."""
    plan, need = {"processes": 4, "threads": 8}, 2 * 251
    settings = {"background": {"worker": WORKER}}
    launch = vassal_options.launch(app(**settings), plan, "aaa", "pyuwsgi")
    assert (launch["tasks"], launch["side_tasks"]) == ("512", "408")
    assert int(launch["side_tasks"]) < need
    launch = vassal_options.launch(app(**settings, max_tasks=1024), plan, "aaa", "pyuwsgi")
    assert int(launch["side_tasks"]) > need


def test_side_processes_may_have_one_each_even_when_the_workers_need_all():
    settings = app(background={"worker": WORKER | {"instances": 3}}, schedule={"tick": TICK}, max_tasks=64)
    launch = vassal_options.launch(settings, {"processes": 8, "threads": 8}, "aaa", "pyuwsgi")
    assert launch["side_tasks"] == "7"


def test_side_process_that_may_start_no_thread_says_which_setting_cures_it():
    said = states.crowded("emperor-side-shop.worker@1-1.service", "RuntimeError: can't start new thread", 512)
    assert said.startswith("it may not start another process or thread, ")
    assert "max_tasks, which is 512: " in said
    assert "set flask_apps[shop].max_tasks higher" in said
    assert states.crowded("emperor-side-shop.worker@1-1.service", "KeyError: 1") == ""
