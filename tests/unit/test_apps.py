"""The settings of apps: what is filled in, and what is kept."""

import copy

import pytest
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings import apps
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.site import data_directories
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused
from app_entries import GIT, NO_HOOKS, NOTHING_SET, app, one
from hypothesis import given
from hypothesis import strategies as st

# Where Flask's folder of that name may be.
INSTANCE = [
    {"at": "src/instance", "data": "instance", "optional": True, "beside": ""},
    {"at": "src/src/instance", "data": "instance", "optional": True, "beside": "src/src/shop"},
    {"at": "venv/var/shop-instance", "data": "instance", "optional": True, "beside": ""},
]


def test_a_short_entry_gets_every_default():
    assert one() == {
        "name": "shop",
        "state": "present",
        "app": "shop:app",
        "source": {"kind": "path", "path": ".", "exclude": [], "directory": ""},
        "python": {
            "interpreter": "/usr/bin/python3",
            "requirements": "auto",
            "additional": [],
            "require_hashes": None,
            "extras": [],
            "groups": [],
        },
        "build": [],
        "build_environment": {},
        "build_credentials": [],
        "packages": [],
        "build_packages": [],
        "environment": {},
        "persistent": INSTANCE,
        "files": [],
        "domains": [],
        "path": "",
        "owner": "shop",
        "redirect_domains": [],
        "tls": {"mode": "off", "hsts_seconds": 0, "certificate": "", "key": "", "challenge": ""},
        "static": {},
        "static_lifetimes": {},
        **{kind: {} for kind in ("media", "protected", "background", "schedule")},
        "streaming": [],
        "serve": {},
        "limits": {"requests_per_second": 0, "burst": 0, "connections": 0},
        "security_headers": {},
        "profile": "web",
        "workers": {**NOTHING_SET, "threads": 8, "lazy_apps": None, "import_threads": False, "batch": True},
        "memory": {"limit": None, "worker_recycle": None, "side_processes": None},
        "reload": "zerg",
        "max_request_seconds": 60,
        "max_start_seconds": 60,
        "max_hook_seconds": 600,
        "slow_request_seconds": 0,
        "max_body_size": "16m",
        "health": {"path": "/", "status": 200},
        "checks": [],
        "hooks": NO_HOOKS,
        "uwsgi": {},
        "max_tasks": 0,
        "network": "full",
        "paths": {
            "home": "/srv/flask_apps/shop",
            "releases": "/srv/flask_apps/shop/releases",
            "shared": "/srv/flask_apps/shop/shared",
            "static": "/srv/flask_apps/shop/static",
            "current": "/srv/flask_apps/shop/current",
            "run": "/run/emperor/shop",
            "log": "/var/log/flask_apps/shop",
            "socket": "/run/emperor-sockets/shop/app.sock",
        },
    }


def test_null_options_count_as_not_given():
    # Ansible's argument specification adds every option that is not given as null.
    assert one() == one(
        state=None,
        source={"path": ".", "git": None, "archive": None, "package": None, "exclude": None},
        python={"interpreter": None, "requirements": None, "require_hashes": None},
        environment=None,
        persistent=None,
        files=None,
        domains=None,
        static=None,
        profile=None,
        redirect_domains=None,
        media=None,
        protected=None,
        streaming=None,
        limits={"requests_per_second": None, "burst": None, "connections": None},
        workers={**NOTHING_SET, "threads": None, "lazy_apps": None, "import_threads": None, "batch": None},
        memory={"limit": None, "worker_recycle": None},
        reload=None,
        max_request_seconds=None,
        max_start_seconds=None,
        max_body_size=None,
        health={"path": None, "status": None},
        hooks={"before_switch": None, "after_switch": None},
        uwsgi=None,
    )


def test_given_options_are_kept():
    given_app = app(
        source={"git": GIT, "exclude": ["*.psd"], "directory": "backend"},
        python={"interpreter": "/opt/python3.14/bin/python3", "requirements": "deploy/requirements.txt"},
        domains=["shop.example.com", "*.example.net", "localhost"],
        static={"/static": "shop/static", "/media/v1": "media"},
        profile="inference",
        workers={
            "processes": 3,
            "threads": 1,
            "lazy_apps": True,
            "import_threads": True,
            "batch": False,
            "minimum": 2,
            "max_requests": 5000,
            "max_lifetime_seconds": 3600,
        },
        reload="upstream",
        max_request_seconds=1,
        max_start_seconds=3600,
        max_hook_seconds=7200,
        max_body_size="2g",
        health={"path": "/healthz?deep=1", "status": 204},
    )
    found = apps.complete_apps([given_app])[0]
    assert found["source"] == {"kind": "git", "git": GIT, "exclude": ["*.psd"], "directory": "backend"}
    assert found["python"]["interpreter"] == "/opt/python3.14/bin/python3"
    assert found["python"]["requirements"] == "deploy/requirements.txt"
    for key in (
        "domains",
        "static",
        "profile",
        "workers",
        "reload",
        "max_request_seconds",
        "max_start_seconds",
        "max_hook_seconds",
        "max_body_size",
        "health",
    ):
        assert found[key] == given_app[key]


def test_workers_auto_equals_no_workers_option():
    assert one(workers="auto") == one(workers={}) == one()


@pytest.mark.parametrize(("profile", "threads"), [("web", 8), ("slow_io", 32), ("inference", 4)])
def test_threads_follow_from_the_profile(profile, threads):
    assert one(profile=profile)["workers"]["threads"] == threads
    assert one(profile=profile, workers={"threads": 7})["workers"]["threads"] == 7


@pytest.mark.parametrize(
    ("value", "mib"), [(512, 512), ("512", 512), ("512M", 512), ("512m", 512), ("2G", 2048), ("2g", 2048)]
)
def test_memory_sizes_become_mib(value, mib):
    kinds = ("limit", "worker_recycle", "side_processes")
    assert one(memory=dict.fromkeys(kinds, value))["memory"] == dict.fromkeys(kinds, mib)


@pytest.mark.parametrize(
    ("reload", "lazy_apps"), [(None, None), ("zerg", None), ("chain", True), ("graceful", None), ("upstream", None)]
)
def test_in_a_chain_every_worker_loads_the_app_itself_and_else_the_trial_start_decides(reload, lazy_apps):
    assert one(reload=reload)["workers"]["lazy_apps"] is lazy_apps
    assert one(reload=reload, workers={"lazy_apps": True})["workers"]["lazy_apps"] is True


def test_user_decides_whether_every_worker_loads_the_app_itself():
    assert one(workers={"lazy_apps": False})["workers"]["lazy_apps"] is False


@pytest.mark.parametrize("reload", ["zerg", "graceful", "upstream"])
def test_without_a_chain_an_app_may_have_one_process(reload):
    assert one(reload=reload, workers={"processes": 1, "lazy_apps": False})["workers"]["processes"] == 1


def test_chain_accepts_two_processes():
    assert one(reload="chain", workers={"processes": 2})["workers"]["processes"] == 2


def test_trailing_slash_of_directories_makes_no_difference():
    with_slash = apps.complete_apps([app()], root="/data/", run="/run/e/")
    assert with_slash == apps.complete_apps([app()], root="/data", run="/run/e")
    assert with_slash[0]["paths"]["current"] == "/data/shop/current"


def test_absent_app_needs_only_its_name():
    assert apps.complete_apps([{"name": "shop", "state": "absent"}])[0].keys() == {"name", "state", "paths"}


def test_absent_apps_take_no_domain_from_others():
    apps.complete_apps([app(), app(name="old", state="absent"), app(name="older", state="absent", domains=["a.b"])])


def test_the_order_of_the_list_is_kept():
    names = ["zoo", "blog", "shop"]
    listed = apps.complete_apps([app(name=name, domains=[f"{name}.example.com"]) for name in names])
    assert [found["name"] for found in listed] == names


def test_list_of_the_user_is_not_modified():
    mine = [app(environment={"A": 1}, uwsgi={"offload-threads": 2}, domains=["a.example.com"])]
    before = copy.deepcopy(mine)
    apps.complete_apps(mine)
    assert mine == before


def test_unchecked_option_is_passed_when_it_is_listed():
    assert one(uwsgi={"mule": 1}, uwsgi_unchecked=["mule"])["uwsgi"] == {"mule": ["1"]}


def test_options_become_lists_of_texts_as_uwsgi_reads_them():
    found = one(uwsgi={"offload-threads": 2, "memory-report": True, "log-5xx": False, "mime-file": ["/a", "/b"]})
    assert found["uwsgi"] == {
        "offload-threads": ["2"],
        "memory-report": ["true"],
        "log-5xx": ["false"],
        "mime-file": ["/a", "/b"],
    }


def test_hooks_are_kept_as_they_are():
    hooks = {"before_switch": ["flask db upgrade", "sh -c 'a && b'"], "after_switch": ["flask warm"]}
    assert one(hooks=hooks)["hooks"] == NO_HOOKS | hooks
    assert one(hooks=None)["hooks"] == NO_HOOKS


def test_static_prefix_may_say_how_long_clients_keep_its_files():
    directory = {"directory": "dist"}
    found = one(static={"/a": "x", "/b": {**directory, "max_age": 60}, "/c": {**directory, "immutable": True},
                        "/d": directory, "/e": {**directory, "max_age": 0}})  # fmt: skip
    assert found["static"] == {"/a": "x", "/b": "dist", "/c": "dist", "/d": "dist", "/e": "dist"}
    assert found["static_lifetimes"] == {
        "/b": "public, max-age=60", "/c": "public, max-age=31536000, immutable", "/e": "public, max-age=0"}  # fmt: skip


def test_directories_of_the_data_come_after_those_above_them():
    assert data_directories(one(media={"/m": "a/b"}, protected={"/p": "a/c/d"})) == ["a", "a/b", "a/c", "a/c/d"]
    assert data_directories(one()) == []


# Text as a person writes it, and bytes that are no text, as Ansible hands them on (surrogateescape).
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
BYTES = st.binary().map(lambda raw: raw.replace(b"\0", b"").decode("utf-8", "surrogateescape"))


@given(TEXT | BYTES)
def test_every_environment_value_that_a_host_can_hold_passes_unchanged(value):
    assert one(environment={"VALUE": value})["environment"] == {"VALUE": value}


@given(st.integers() | st.floats())
def test_numbers_in_the_environment_become_plain_text(number):
    assert one(environment={"VALUE": number})["environment"] == {"VALUE": str(number)}


@given(st.text())
def test_option_value_stays_on_one_line_or_is_refused(value):
    try:
        found = one(uwsgi={"mime-file": value})["uwsgi"]["mime-file"]
    except Refused:
        assert set(value) & set("\n\r\0")
    else:
        assert found == [value]
        assert not set(value) & set("\n\r\0")
