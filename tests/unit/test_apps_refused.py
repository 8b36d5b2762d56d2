"""The settings of apps: each invalid one is refused with a sentence."""

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.flaskops.emperor.plugins.filter import apps as filter_plugin
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings import apps, uwsgi_options
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused
from app_entries import DIGEST, app, one
from hypothesis import given
from hypothesis import strategies as st

# What is changed in an app that is right otherwise: the variable that is named, and the fault or the cure.
REFUSED = [
    ({"name": None}, "flask_apps[].name is None, but must start with a lower-case letter"),
    ({"name": ""}, "flask_apps[].name"),
    ({"name": "Shop"}, "must start with a lower-case letter"),
    ({"name": "1shop"}, "must start with a lower-case letter"),
    ({"name": "a" * 32}, "at most 30"),
    ({"name": "shop/../x"}, "lower-case letters, digits"),
    ({"name": "shop\n"}, "lower-case letters, digits"),
    ({"name": "www-data"}, "flask_apps[www-data].name is a system account of the host: choose another name."),
    ({"name": "emperor"}, "choose another name"),
    ({"app": None}, "flask_apps[shop].app is None, but must be 'module:callable'"),
    ({"app": "shop"}, "'module:callable'"),
    ({"app": "shop-1:app"}, "'module:callable'"),
    ({"app": "shop:create_app(one)"}, "arguments must be plain values"),
    ({"app": "shop:app\nprocesses = 99"}, "'module:callable'"),
    ({"source": None}, "flask_apps[shop].source names none, but must name exactly one of path, git"),
    ({"source": {"path": ".", "package": "a==1"}}, "names path and package, but must name exactly one"),
    ({"source": {"exclude": ["*.md"]}}, "names none"),
    ({"source": {"package": "shop"}}, "flask_apps[shop].source.package is 'shop', but must pin one version"),
    ({"source": {"package": "shop>=2"}}, "must pin one version"),
    ({"source": {"package": "--pre"}}, "must pin one version"),
    ({"source": {"archive": {"url": "a.tar"}}}, "source.archive.checksum is None, but must be 'sha256:' and 64"),
    ({"source": {"archive": {"url": "a.tar", "checksum": "md5:00"}}}, "`sha256sum FILE` prints them"),
    ({"source": {"archive": {"url": "a.tar", "checksum": DIGEST.upper()}}}, "64 hexadecimal digits"),
    ({"source": {"git": {"repo": "x"}}}, "source.git.version is missing, but must name the commit, tag or branch"),
    ({"source": {"git": {"repo": "x", "version": "--all"}}}, "source.git.version"),
    ({"source": {"git": {"version": "v1"}}}, "source.git.repo must be the address of a git repository"),
    ({"source": {"git": {"repo": "--upload-pack=x", "version": "v1"}}}, "source.git.repo must be the address"),
    ({"python": {"interpreter": "python3"}}, "python.interpreter is 'python3', but must be an absolute path"),
    ({"python": {"interpreter": "/usr/bin/python3 -X dev"}}, "must be an absolute path"),
    ({"python": {"requirements": "/etc/requirements.txt"}}, "python.requirements is '/etc/requirements.txt', but must"),
    ({"python": {"requirements": "../requirements.txt"}}, "without '..'"),
    ({"python": {"requirements": "-r x"}}, "a path inside the app's source"),
    (
        {"python": {"require_hashes": True, "requirements": "none"}},
        "python.require_hashes needs a file whose hashes to check",
    ),
    (
        {"python": {"require_hashes": True, "requirements": "a/pyproject.toml"}},
        "needs a file with hashes, but a/pyproj",
    ),
    (
        {"python": {"extras": ["pdf"], "requirements": "r.txt"}},
        "python.extras needs uv.lock, poetry.lock, pylock.toml, p",
    ),
    ({"python": {"groups": ["a b"]}}, "python.groups is 'a b', but must be a list of names"),
    ({"python": {"extras": ["pdf"]}, "source": {"package": "a==1"}}, "write them like 'shop[pdf]==2.1' there"),
    ({"source": {"package": "a==1", "directory": "x"}}, "source.directory does not go with source.package"),
    ({"source": {"path": ".", "directory": "../x"}}, "source.directory is '../x', but must be a path inside"),
    ({"python": {"additional": ["-e ."]}}, "python.additional is '-e .', but must be a list of Python requirements"),
    ({"build": "make"}, "build is 'make', but must be a list of commands."),
    ({"build": ["echo 'x"]}, 'build has "echo \'x", which cannot be split into words'),
    ({"packages": ["libpq5 git"]}, "packages is 'libpq5 git', but must be a list of names of Debian packages."),
    ({"build_packages": ["-y"]}, "build_packages is '-y', but must be a list of names"),
    ({"python": {"requirements": "r.txt"}, "source": {"package": "a==1"}}, "does not go with source.package"),
    ({"environment": {"A-B": "x"}}, "environment.A-B is no name for an environment variable: use letters"),
    ({"environment": {"1A": "x"}}, "is no name for an environment variable"),
    ({"environment": {1: "x"}}, "is no name for an environment variable"),
    ({"environment": {"": "x"}}, "is no name for an environment variable"),
    ({"environment": {"HOME": "/root"}}, "environment.HOME is set by the role itself: choose another name."),
    ({"environment": {"RELEASE_ID": "x"}}, "is set by the role itself"),
    ({"environment": {"UWSGI_RELOADS": "1"}}, "is set by the role itself"),
    (
        {"environment": {"EMPEROR_SERVING": "/x"}},
        "environment.EMPEROR_SERVING is set by the role itself: choose another",
    ),
    ({"environment": {"EMPEROR_APP": "x:y"}}, "environment.EMPEROR_APP is set by the role itself"),
    ({"environment": {"A": True}}, "environment.A is a bool, but must be text or a number: put it in quotes."),
    ({"environment": {"A": None}}, "is a NoneType, but must be text"),
    ({"environment": {"A": ["x"]}}, "is a list, but must be text"),
    ({"environment": {"A": "x\0y"}}, "has a NUL byte, which no environment variable can hold: encode the value"),
    ({"environment": {"A": "\ud83d"}}, "has half of a surrogate pair, which is no text"),
    ({"static": {"static": "s"}}, "static['static'] must be a URL prefix like '/static': a leading slash"),
    ({"static": {"/static/": "s"}}, "no slash at the end"),
    ({"static": {"/": "s"}}, "must be a URL prefix"),
    ({"static": {"/a/../b": "s"}}, "no '..'"),
    ({"static": {"/.": "s"}}, "must be a URL prefix"),
    ({"static": {"/a b": "s"}}, "must be a URL prefix"),
    ({"static": {"/a": "/etc"}}, "static['/a'] is '/etc', but must be a path inside the app's source"),
    ({"static": {"/a": "x/../../y"}}, "without '..'"),
    ({"static": {"/a": None}}, "is None, but must be a path inside"),
    ({"static": {"/a": "x", "/a/b": "y"}}, "static['/a'] holds another prefix of the same app"),
    ({"static": {"/a": {"max_age": 1}}}, "static['/a'] must be a directory of the source, or a dict with directory,"),
    ({"static": {"/a": {"directory": "x", "ttl": 1}}}, "static['/a'] has ttl, which is no option of it: choose from"),
    (
        {"static": {"/a": {"directory": "x", "max_age": -1}}},
        "static['/a'].max_age is -1, but must be a whole number of",
    ),
    ({"static": {"/a": {"directory": "x", "immutable": "y"}}}, "static['/a'].immutable is 'y', but must be true or"),
    ({"media": {"/a": "/etc"}}, "media['/a'] is '/etc', but must be a path inside the app's data"),
    ({"media": {"/a": "../etc"}}, "without '..'"),
    ({"protected": {"a": "x"}}, "protected['a'] must be a URL prefix like"),
    ({"streaming": ["events"]}, "streaming must be a URL prefix like"),
    ({"media": {"/a": "x"}, "static": {"/a": "x"}}, "media has /a, which static has too: remove it from one of them."),
    ({"media": {"/a": "x"}, "streaming": ["/a/b"]}, "media['/a'] holds another prefix of the same app"),
    (
        {"limits": {"requests_per_second": "many"}},
        "limits.requests_per_second is 'many', but must be a whole number of",
    ),
    ({"limits": {"burst": 5}}, "limits.burst does nothing without limits.requests_per_second: set that too."),
    ({"redirect_domains": ["www.a.test"]}, "redirect_domains has nowhere to lead to: set domains"),
    (
        {"redirect_domains": ["www.a.test"], "domains": ["*.a.test"]},
        "domains[0] is '*.a.test', but a redirect must lead to one name",
    ),
    ({"redirect_domains": ["a.test"], "domains": ["a.test"]}, "domains has a.test, which shop has too"),
    ({"workers": {"import_threads": "no"}}, "workers.import_threads is 'no', but must be true or false."),
    ({"workers": {"batch": "off"}}, "workers.batch is 'off', but must be true or false."),
    ({"health": {"path": "/a/../b"}}, "health.path is '/a/../b', but must have no '.' or '..'"),
    ({"health": {"path": "/%2e"}}, "no '.' or '..'"),
    ({"health": {"path": "/%zz"}}, "no broken escapes"),
    ({"health": {"path": "/%00"}}, "no broken escapes"),
    ({"checks": "flask ping"}, "checks is 'flask ping', but must be a list of commands."),
    ({"hooks": {"before_switch": "flask db upgrade"}}, "hooks.before_switch is 'flask db upgrade', but must"),
    ({"hooks": {"after_switch": [["flask", "warm"]]}}, "hooks.after_switch has ['flask', 'warm'], but"),
    ({"hooks": {"after_switch": [None]}}, "hooks.after_switch has None, but must be a list of commands"),
    ({"hooks": {"before_switch": ["a\0b"]}}, "hooks.before_switch has 'a\\x00b', but must be"),
    ({"hooks": {"before_switch": ["sh -c 'a"]}}, "which cannot be split into words (No closing quotation): correct"),
    ({"hooks": {"before_switch": ["a", " "]}}, "flask_apps[shop].hooks.before_switch has an empty command: remove it."),
    ({"domains": ["[2001:db8::1]"]}, "domains has [2001:db8::1], which is an IPv6 address: give a host name"),
    ({"domains": ["2001:db8::1"]}, "domains has 2001:db8::1, which is an IPv6 address"),
    ({"domains": ["192.0.2.1"], "tls": {"mode": "acme"}}, "domains has 192.0.2.1, but certbot asks for host names"),
    ({"domains": ["http://a.test:80"]}, "domains is 'http://a.test:80', but must be a host name"),
    ({"domains": ["Shop.example.com"]}, "domains is 'Shop.example.com', but must be a host name in lower case"),
    ({"domains": ["shop.example.com;"]}, "must be a host name"),
    ({"domains": ["-a.example.com"]}, "must be a host name"),
    ({"domains": ["a..example.com"]}, "must be a host name"),
    ({"domains": ["www.*.com"]}, "must be a host name"),
    ({"domains": [7]}, "must be a host name"),
    ({"domains": ["a.example.com", "a.example.com"]}, "domains has a.example.com, which shop has too: remove it"),
    ({"workers": {"processes": 0}}, "workers.processes is 0, but must be a whole number of processes from 1 to 512."),
    ({"workers": {"processes": "4"}}, "workers.processes is '4'"),
    ({"workers": {"threads": 513}}, "workers.threads is 513, but must be a whole number of threads from 1 to 512."),
    ({"workers": {"threads": True}}, "workers.threads is True"),
    (
        {"reload": "chain", "workers": {"lazy_apps": False}},
        "shop].workers.lazy_apps is false, but with reload: chain every",
    ),
    (
        {"reload": "chain", "workers": {"processes": 1}},
        "shop].workers.processes is 1, but with reload: chain others must",
    ),
    ({"reload": "chain", "workers": {"processes": 0}}, "workers.processes is 0, but must be a whole number"),
    ({"workers": "many"}, "flask_apps[shop].workers is 'many', but must be auto or a dict with processes, threads, "),
    ({"workers": 4}, "flask_apps[shop].workers is 4, but must be auto"),
    ({"workers": [{"processes": 4}]}, "but must be auto or a dict"),
    (
        {"workers": {"proceses": 4, "threads": 2}},
        "flask_apps[shop].workers has proceses, which is no option of it: did you mean processes?",
    ),
    ({"workers": {"lazy_apps": "yes"}}, "flask_apps[shop].workers.lazy_apps is 'yes', but must be true or false."),
    ({"workers": {"minimum": 0}}, "workers.minimum is 0, but must be a whole number of processes from 1 to 512."),
    (
        {"workers": {"minimum": 5, "processes": 4}},
        "flask_apps[shop].workers.minimum is 5, but workers.processes is 4: set it to that or lower.",
    ),
    (
        {"workers": {"minimum": 2}, "reload": "chain"},
        "flask_apps[shop].workers.minimum does not go with reload: chain, which waits for each worker: remove it, or",
    ),
    ({"workers": {"max_requests": 0}}, "workers.max_requests is 0, but must be a whole number of requests from 1"),
    ({"workers": {"max_lifetime_seconds": "1h"}}, "workers.max_lifetime_seconds is '1h', but must be a whole number"),
    ({"reload": "magic"}, "reload is 'magic', but must be one of zerg, chain, graceful, upstream, exclusive."),
    ({"profile": "fast"}, "flask_apps[shop].profile is 'fast', but must be one of web, slow_io, inference."),
    (
        {"memory": {"limit": "lots"}},
        "flask_apps[shop].memory.limit is 'lots', but must be a number of MiB, or a size",
    ),
    ({"memory": {"limit": 0}}, "memory.limit is 0, but must be a number of MiB"),
    ({"memory": {"limit": True}}, "memory.limit is True, but must be a number of MiB"),
    ({"memory": {"worker_recycle": "1.5G"}}, "memory.worker_recycle is '1.5G', but must be a number of MiB"),
    ({"uwsgi": {"max-requests": 9}}, "use `workers.max_requests` of this app instead"),
    ({"uwsgi": {"cheaper": 9}}, "use `workers.minimum` of this app instead"),
    ({"uwsgi": {"max-worker-lifetime": 9}}, "use `workers.max_lifetime_seconds` of this app instead"),
    ({"uwsgi": {"reload-on-rss": 9}}, "use `memory.worker_recycle` of this app instead"),
    ({"max_request_seconds": 0}, "max_request_seconds is 0, but must be a whole number of seconds from 1 to 3600."),
    ({"max_request_seconds": 1.5}, "max_request_seconds is 1.5"),
    ({"max_start_seconds": 3601}, "max_start_seconds is 3601"),
    ({"max_hook_seconds": 0}, "max_hook_seconds is 0, but must be a whole number of seconds from 1 to 86400."),
    ({"max_body_size": "16 MB"}, "max_body_size is '16 MB', but must be a size like '16m'."),
    ({"max_body_size": "1m; root /"}, "must be a size"),
    ({"health": {"path": "healthz"}}, "health.path is 'healthz', but must be a path like '/healthz'."),
    ({"health": {"path": "/a b"}}, "must be a path"),
    ({"health": {"path": "/a\r\nX: y"}}, "must be a path"),
    ({"health": {"status": 99}}, "health.status is 99"),
    ({"health": {"status": 0}}, "health.status is 0"),
    ({"uwsgi": {"Lazy": 1}}, "uwsgi.Lazy is no name of a uWSGI option: write it as in uWSGI's manual, with dashes."),
    ({"uwsgi": {"lazy_apps": 1}}, "with dashes"),
    ({"uwsgi": {"a = b\nc": 1}}, "is no name of a uWSGI option"),
    ({"uwsgi": {"module": "x:y"}}, "uwsgi.module is set by the role: use `app` of this app instead."),
    ({"uwsgi": {"processes": 3}}, "use `workers.processes` of this app instead"),
    ({"uwsgi": {"harakiri": 3}}, "use `max_request_seconds` of this app instead"),
    ({"uwsgi": {"post-buffering": 65536}}, "uwsgi.post-buffering makes uWSGI kill workers during uploads: remove"),
    *(
        ({"uwsgi": {name: "x"}}, f"flask_apps[shop].uwsgi.{name} is not known to leave sockets, processes,")
        for name in (
            "include",
            "inherit",
            "plugin-dir",
            "pidfile",
            "attach-daemon",
            "spooler",
            "http",
            "hook-asap",
            "cron2",
            "mule",
            "exec-asap",
            "log-socket",
            "logto",
            "touch-reload",
            "route-run",
            "master-fifo",
        )
    ),
    ({"uwsgi": {"stats": "/s"}, "uwsgi_unchecked": ["stats"]}, "uwsgi.stats is set by the role"),
    ({"max_tasks": 3}, "flask_apps[shop].max_tasks"),
    ({"network": "lan"}, "flask_apps[shop].network is 'lan', but must be full, local or none."),
    ({"allowed_addresses": ["db.test"]}, "flask_apps[shop].allowed_addresses has 'db.test', which cannot be used ("),
    (
        {"allowed_addresses": ["10.0.3.7/8"]},
        "has host bits set): write addresses or networks, like 10.0.3.7 or 10.0.3.0/24",
    ),
    ({"allowed_addresses": ["fe80::1%eth0 any"]}, "flask_apps[shop].allowed_addresses has 'fe80::1%eth0 any', which"),
    ({"uwsgi": {"env": "A=b"}}, "use `environment` of this app instead"),
    ({"uwsgi": {"virtualenv": "/v"}}, "use `python` of this app instead"),
    ({"uwsgi": {"lazy-apps": True}}, "use `workers.lazy_apps` of this app instead"),
    ({"uwsgi": {"stats": "/s"}}, "uwsgi.stats is set by the role and cannot be changed for one app: remove it."),
    ({"uwsgi": {"zerg": "/s"}}, "uwsgi.zerg is set by the role and cannot be changed for one app: remove it."),
    ({"uwsgi": {"socket": ":1"}}, "uwsgi.socket is set by the role and cannot be changed for one app: remove it."),
    ({"uwsgi": {"stats-no-cores": True}}, "cannot be changed for one app"),
    ({"uwsgi": {"uid": "root"}}, "cannot be changed for one app"),
    ({"uwsgi": {"emperor-tyrant": True}}, "cannot be changed for one app"),
    ({"uwsgi": {"mime-file": {"a": 1}}}, "is a dict, but must be text, a number, true, false or a list of these."),
    ({"uwsgi": {"mime-file": [None]}}, "is a NoneType"),
    ({"uwsgi": {"mime-file": "a\nuid = root"}}, "has a line break, which would end the option"),
    ({"uwsgi": {"mime-file": ["a", "b\rc"]}}, "has a line break"),
]


@pytest.mark.parametrize(("changes", "sentence"), REFUSED)
def test_invalid_setting_is_refused_with_a_sentence(changes, sentence):
    with pytest.raises(Refused) as refusal:
        one(**changes)
    assert sentence in str(refusal.value)
    assert str(refusal.value).startswith("flask_apps[")
    assert str(refusal.value).endswith((".", "?"))


@pytest.mark.parametrize(
    ("second", "sentence"),
    [
        (
            app(domains=["a.example.com"]),
            "flask_apps[shop].name is used by two apps: every app needs a name of its own.",
        ),
        (app(state="absent"), "is used by two apps"),
        (app(name="blog"), "flask_apps[blog].domains is empty, as it is for shop: only one app can answer"),
    ],
)
def test_two_apps_that_collide_are_refused(second, sentence):
    with pytest.raises(Refused) as refusal:
        apps.complete_apps([app(), second])
    assert sentence in str(refusal.value)


def test_name_that_is_redirected_belongs_to_one_app():
    first = app(domains=["a.test"], redirect_domains=["www.a.test"])
    with pytest.raises(Refused, match=r"flask_apps\[blog\].domains has www.a.test, which shop has too"):
        apps.complete_apps([first, app(name="blog", domains=["www.a.test"])])


def test_a_domain_of_two_apps_is_refused():
    with pytest.raises(Refused) as refusal:
        apps.complete_apps(
            [app(domains=["a.example.com"]), app(name="blog", domains=["b.example.com", "a.example.com"])]
        )
    assert "flask_apps[blog].domains has a.example.com, which shop has too: remove it" in str(refusal.value)


@pytest.mark.parametrize("option", sorted({*uwsgi_options.MANAGED_OPTIONS, *uwsgi_options.FIXED_OPTIONS}))
def test_no_option_of_the_role_can_be_given_twice(option):
    with pytest.raises(Refused, match="is set by the role"):
        one(uwsgi={option: "x"})


NAMES = st.text(st.sampled_from("abz019-_/.A \n"), max_size=33)


@given(NAMES)
def test_accepted_name_is_safe_as_user_file_and_unit(name):
    try:
        apps.complete_apps([app(name=name)])
    except Refused:
        return
    assert name[0].islower()
    assert len(name) <= 31
    assert not set(name) & set("/. \nA")


def test_filter_refuses_with_the_sentence_of_the_settings():
    found = filter_plugin.FilterModule().filters()["apps"]
    assert found([app()], root="/data")[0]["paths"]["home"] == "/data/shop"
    with pytest.raises(AnsibleFilterError, match=r"flask_apps\[shop\].app is None"):
        found([app(app=None)])
