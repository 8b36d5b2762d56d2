"""Settings that do not fit the host, each other or its system are refused."""

import pytest
from ansible_collections.flaskops.emperor.plugins.action.host_state import check_system
from ansible_collections.flaskops.emperor.plugins.plugin_utils import host_fit, plan
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.relations import (
    check_only,
    check_root,
    check_stop_timeout,
    check_tasks,
    check_uwsgi,
)
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused
from planned import APP, MACHINE, SHOP, changed, healthy, host, wanted


def test_workers_that_do_not_fit_into_the_memory_are_refused():
    on = host({**SHOP, "memory": {"limit": "9G"}})
    with pytest.raises(Refused, match=r"flask_apps\[shop\].memory.limit: 9216 MiB in all, but of the host's 8000 MiB"):
        host_fit.check_host(on, [], {"machine": MACHINE})


def test_account_of_something_else_is_refused():
    on = host()
    one = wanted(on)
    state = changed(healthy(on, one), (*APP, "account", "home"), "/home/shop")
    host_fit.check_host(on, [one], healthy(on, one))
    with pytest.raises(Refused, match=r"flask_apps\[shop\].name is an account of this host that belongs to something"):
        host_fit.check_host(on, [one], state)


def test_port_on_which_another_program_listens_is_refused():
    ports = {"flask_apps_http_port": 80, "flask_apps_https_port": 443}
    host_fit.check_ports(ports, {})
    said = r"^flask_apps_https_port is 443, but on this host apache2 \(apache2.service\) listens there: stop and"
    with pytest.raises(Refused, match=said):
        host_fit.check_ports(ports, {"443": ["apache2 (apache2.service)"]})


@pytest.mark.parametrize("value", [None, {"executable": False}])
def test_interpreter_that_is_not_there_is_refused(value):
    on = host()
    one = wanted(on)
    state = changed(healthy(on, one), ("files", "/usr/bin/python3"), value)
    with pytest.raises(Refused, match=r"python.interpreter is /usr/bin/python3, which is no program on this host"):
        host_fit.check_host(on, [one], state)


def test_interpreter_that_a_debian_package_of_the_app_brings_is_taken():
    on = host({**SHOP, "python": {"interpreter": "/usr/bin/python3.14"}, "packages": ["python3.14"]})
    one = wanted(on)
    host_fit.check_host(on, [one], changed(healthy(on, one), ("files", "/usr/bin/python3.14"), None))


@pytest.mark.parametrize("more", [{"network": "local"}, {"network": "none"}, {"allowed_addresses": ["10.0.3.7"]}])
def test_network_that_the_kernel_cannot_hold_an_app_to_is_refused(more):
    on = host({**SHOP, **more})
    one = wanted(on)
    host_fit.check_host(on, [one], healthy(on, one))
    with pytest.raises(
        Refused, match=r"flask_apps\[shop\].network cannot be held to, as the kernel of this host has no"
    ):
        host_fit.check_host(on, [one], changed(healthy(on, one), ("machine", "filters"), False))


def test_unknown_name_in_only_is_refused():
    check_only(["shop"], host().apps)
    with pytest.raises(Refused, match="flask_apps_only names blog, which is not in flask_apps: choose from shop"):
        check_only(["blog"], host().apps)


def test_root_outside_the_writable_paths_is_refused():
    check_root("/srv/flask_apps", ["/srv/flask_apps"])
    with pytest.raises(Refused, match=r"flask_apps_root is /opt/apps, in which .* add it to uwsgi_writable_paths"):
        check_root("/opt/apps", ["/srv/flask_apps"])


@pytest.mark.parametrize(
    ("changes", "arguments", "sentence"),
    [
        ({"reload": "chain"}, ("distro", 13), "reload is chain, which is not tested with the"),
        ({"workers": {"threads": 2}}, ("distro", 12), "threads is 2, but the uWSGI of Debian 12 loses requests"),
    ],
)
def test_app_that_does_not_fit_its_uwsgi_is_refused(changes, arguments, sentence):
    with pytest.raises(Refused, match=sentence):
        check_uwsgi(host({**SHOP, **changes}).apps[0], *arguments)


@pytest.mark.parametrize(
    ("changes", "arguments"),
    [
        ({"reload": "chain"}, ("pyuwsgi", 12)),
        ({"workers": {"threads": 1}}, ("distro", 12)),
        ({"workers": {"threads": 2}}, ("distro", 13)),
    ],
)
def test_app_that_fits_its_uwsgi_passes(changes, arguments):
    check_uwsgi(host({**SHOP, **changes}).apps[0], *arguments)


def test_uwsgi_is_checked_against_the_system_of_the_host():
    on = host({**SHOP, "workers": {"threads": 2}}, uwsgi="distro")
    state = healthy(on, wanted(on))
    host_fit.check_host(on, [], state)
    with pytest.raises(Refused, match="the uWSGI of Debian 12 loses requests"):
        host_fit.check_host(on, [], changed(state, ("machine",), {"distribution": "Debian", "version": "12"}))


def test_request_that_outlives_the_service_is_refused():
    app = host({**SHOP, "max_request_seconds": 90}).apps[0]
    for timeout in (None, 120):
        check_stop_timeout(app, timeout)
    with pytest.raises(Refused, match=r"max_request_seconds is 90, .* to at least 120, or leave it out"):
        check_stop_timeout(app, 119)


TESTED = {"Debian": ["12", "13"]}


@pytest.mark.parametrize(
    ("name", "version"), [("Ubuntu", "24.04"), ("Debian", "11"), ("Debian", ""), ("", ""), ("Fedora", "13")]
)
def test_system_that_is_not_tested_is_refused_and_can_be_tried(name, version):
    machine = {"distribution": name, "version": version}
    check_system("flask_apps", machine, TESTED, allow=True)
    with pytest.raises(Refused, match=rf"not tested on {name} {version}. Use Debian 12 or 13, or set flask_apps_allow"):
        check_system("flask_apps", machine, TESTED, allow=False)


@pytest.mark.parametrize("version", ["12", "13", "13.2"])
def test_system_that_is_tested_passes(version):
    check_system("flask_apps", {"distribution": "Debian", "version": version}, TESTED, allow=False)


def test_more_threads_than_max_tasks_are_refused():
    app = {"name": "shop", "max_tasks": 64, "background": {}, "schedule": {}}
    workers = {"processes": 4, "threads": 8}
    with pytest.raises(
        Refused, match=r"max_tasks is 64, but its workers \(4 x 8\) need 104 during a switch: set it to 104 or"
    ):
        check_tasks(app, workers)
    check_tasks({**app, "max_tasks": 104}, workers)
    check_tasks({**app, "max_tasks": 0}, workers)
    app |= {"max_tasks": 104, "background": {"worker": {"instances": 2}}, "schedule": {"tick": {}}}
    with pytest.raises(
        Refused,
        match=r"is 104, but its workers \(4 x 8\) need 104 and its side processes 5 during a switch: set it to 109",
    ):
        check_tasks(app, workers)
    check_tasks({**app, "max_tasks": 109}, workers)


def test_max_tasks_is_checked_with_the_workers_that_are_planned_from_what_a_release_was_measured_to_use():
    on = host({**SHOP, "max_tasks": 150, "background": {"rq": {"command": "rq worker"}}}, cpus=4, memory=1024)
    host_fit.check_host(on, [], {"machine": MACHINE})
    one = wanted(on)
    state = healthy(on, one)
    assert "release" not in plan.compare(one, on, state)
    small = {"total": 44 * plan.MIB, "private": 4 * plan.MIB, "rss": 40 * plan.MIB}
    with pytest.raises(Refused, match=r"^flask_apps\[shop\].max_tasks is 150, but its workers \(8 x 8\) need 200 and"):
        plan.compare(one, on, changed(state, (*APP, "releases", "releases", 0, "size"), small))
    on = host({**SHOP, "max_tasks": 64}, cpus=4, memory=1024)
    with pytest.raises(Refused, match="max_tasks is 64, but its workers"):
        host_fit.check_host(on, [], {"machine": MACHINE})
