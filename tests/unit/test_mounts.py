"""Apps that share a domain: who owns it, what is refused, and which files of nginx change together."""

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils.uwsgi_client import encode_request
from ansible_collections.flaskops.emperor.plugins.plugin_utils import certificate_plan
from ansible_collections.flaskops.emperor.plugins.plugin_utils.plan import Host
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.apps import complete_apps
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.balancer import complete_balancer
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused
from ansible_collections.flaskops.emperor.plugins.plugin_utils.sites import Sites, mount_path, paths

SITES = "/etc/nginx/sites-enabled"


def app(name, path="/", **more):
    return {"name": name, "app": "a:b", "source": {"path": "."}, "domains": ["a.test"], "path": path, **more}


def owners(*apps, **more):
    return {one["name"]: one["owner"] for one in complete_apps(apps, **more)}


def test_app_with_the_first_path_owns_the_domain():
    assert owners(app("shop", "/shop"), app("site"), app("desk", "/shop/desk")) == dict.fromkeys(
        ("shop", "site", "desk"), "site"
    )
    assert owners(app("shop", "/shop"), app("blog", "/blog"), app("other", domains=["b.test"])) == {
        "shop": "blog", "blog": "blog", "other": "other"
    }  # fmt: skip
    assert owners(app("shop", "/shop", domains=[]), app("site", domains=[])) == {"shop": "site", "site": "site"}
    assert owners(app("b", domains=["x.test", "y.test"]), app("c", "/c", domains=["y.test", "x.test"]))["c"] == "b"
    absent = {"name": "site", "state": "absent"}
    assert complete_apps([app("shop", "/shop"), absent])[0]["owner"] == "shop"


def test_health_check_is_below_the_path_and_the_app_sees_it_without():
    shop = complete_apps([app("shop", "/shop", health={"path": "/a%20b?c=/shop"})])[0]
    assert shop["health"]["path"] == "/shop/a%20b?c=/shop"
    packet = encode_request(shop["health"]["path"], "a.test", shop["path"])
    for name, value in (("SCRIPT_NAME", "/shop"), ("PATH_INFO", "/a b"), ("REQUEST_URI", "/shop/a%20b?c=/shop")):
        written = b"".join(len(one).to_bytes(2, "little") + one.encode() for one in (name, value))
        assert written in packet


@pytest.mark.parametrize(
    ("apps", "sentence"),
    [
        ([app("a"), app("b")], "flask_apps[b].domains has a.test, which a has too: remove it from one of them, or set"),
        ([app("a", "/x"), app("b", "/x")], "flask_apps[b].path is /x, which a has on the same domain: choose another"),
        ([app("a", domains=[]), app("b", domains=[])], "flask_apps[b].domains is empty, as it is for a"),
        (
            [app("a"), app("b", "/b", domains=["a.test", "b.test"])],
            "flask_apps[b].domains has a.test, which a has too, at another path: give both the same list of domains.",
        ),
        ([app("a"), app("b", "/b", redirect_domains=["c.test"])], "flask_apps[b].redirect_domains is set, but a at /"),
        (
            [app("a", domains=["b.test"], redirect_domains=["a.test"]), app("b", "/b")],
            "flask_apps[b].domains has a.test, which a has too: remove it from one of them.",
        ),
        (
            [app("a"), app("b", "/b", tls={"mode": "selfsigned"})],
            "flask_apps[b].tls differs from that of a, but a",
        ),
        ([app("a", static={"/b": "x"}), app("b", "/b")], "flask_apps[a].static has /b, which meets /b, where b is"),
        ([app("a", media={"/b": "x"}), app("b", "/b/c")], "flask_apps[a].media has /b, which meets /b/c, where b is"),
        (
            [app("a", streaming=["/b/e"]), app("b", "/b")],
            "flask_apps[a].streaming has /b/e, which meets /b",
        ),
        (
            [app("a", "/a", protected={"/b": "x"}), app("b", "/a/b")],
            "flask_apps[a].protected has /b, which meets /a/b, where b is",
        ),
        ([app("a", health={"path": "/b/?x"}), app("b", "/b")], "flask_apps[a].health.path is /b/?x, which is below /b"),
        ([app("a", "b")], "flask_apps[a].path must be a URL prefix like"),
        ([app("a", "/b/")], "flask_apps[a].path must be a URL prefix like"),
        ([app("a", "/b/../c")], "flask_apps[a].path must be a URL prefix like"),
        ([app("a", "/.well-known")], "flask_apps[a].path is '/.well-known', but must not start with a dot"),
    ],
)
def test_conflicts_of_apps_on_one_domain_are_refused(apps, sentence):
    with pytest.raises(Refused) as refusal:
        complete_apps(apps)
    assert sentence in str(refusal.value)


def test_paths_that_only_begin_alike_do_not_meet():
    complete_apps([app("a", static={"/shopping": "x"}, health={"path": "/shop-a"}), app("b", "/shop")])


def test_https_and_its_certificate_are_those_of_the_owner():
    site, shop = complete_apps([app("site", tls={"mode": "selfsigned", "hsts_seconds": 9}), app("shop", "/shop")])
    assert shop["tls"] == site["tls"]
    assert [certificate_plan.certified(one) for one in (site, shop)] == [True, False]
    found = {"there": True, "lineage": False, "self_signed": True, "days": -3}
    assert certificate_plan.unused([shop], {"shop": found}) == {"shop": True}
    assert certificate_plan.problem(shop, found) == certificate_plan.line(shop, found) == ""


def sites(*apps, there=(), mounts=()):
    host = Host(apps=complete_apps(apps), reserve=64, uwsgi="pyuwsgi", uwsgi_version="2", backlog=9, web_group="w",
                keep=5, sites=SITES)  # fmt: skip
    known = [f"{SITES}/flask_apps-{name}.conf" for name in there]
    files = {path: {"kind": "file"} if path in known else None for path in paths(host)}
    state = {"files": files, "mounts": [f"/etc/nginx/flask_apps/{one}.conf" for one in mounts]}
    return Sites(host, state, lambda one, mount: f"{one['name']} {one['owner']} {mount}")


def changes(found, name, before=()):
    """The files of a turn, by short names: their text, or None."""
    return {
        one["path"].rpartition("/")[2].removeprefix("flask_apps-").removesuffix(".conf"): one.get("content")
        for one in found.change(name, before)
    }


def test_app_on_a_domain_of_its_own_changes_its_site_alone():
    found = sites(app("site"), app("other", domains=["b.test"]), there=["site", "other"])
    assert changes(found, "site") == {"site": "site site False"}
    assert found.order(["site", "other"]) == ["site", "other"]


def test_app_below_a_path_brings_its_own_files_and_that_of_the_owner():
    found = sites(app("site"), app("shop", "/shop"), app("desk", "/desk"), there=["site"])
    assert changes(found, "shop") == {
        "site": "site site False", "shop": "shop site False", "site+shop": "shop site True"
    }  # fmt: skip
    # One that is not there yet comes in its own turn.
    assert "desk" not in changes(found, "shop")
    assert changes(found, "desk", ["shop"]).keys() == {"site", "shop", "site+shop", "desk", "site+desk"}
    assert mount_path(found.apps["shop"], found.host) == "/etc/nginx/flask_apps/site+shop.conf"


def test_new_owner_comes_first_and_takes_all_apps_of_the_domain_along():
    found = sites(app("shop", "/shop"), app("blog", "/blog"), app("site"), there=["shop", "blog"], mounts=["blog+shop"])
    assert found.order(["shop", "blog", "site"]) == ["site", "shop", "blog"]
    assert changes(found, "site") == {
        "site": "site site False", "shop": "shop site False", "blog": "blog site False",
        "blog+shop": None, "site+shop": "shop site True", "site+blog": "blog site True",
    }  # fmt: skip


def test_domain_of_an_absent_owner_goes_to_the_next_app():
    absent = {"name": "site", "state": "absent"}
    mounts = ["site+shop", "site+blog"]
    found = sites(absent, app("shop", "/shop"), app("blog", "/blog"), there=["shop", "blog"], mounts=mounts)
    found.check(["site", "shop", "blog"])
    assert changes(found, "site") == {
        "site": None, "site+shop": None, "site+blog": None,
        "blog": "blog blog False", "shop": "shop blog False", "blog+shop": "shop blog True",
    }  # fmt: skip
    with pytest.raises(Refused, match=r"a\.test is to be owned by blog, which must come along: name blog, too"):
        found.check(["site"])


def test_app_that_leaves_a_domain_leaves_no_file():
    found = sites(app("site"), app("shop", domains=["b.test"]), there=["site", "shop"], mounts=["site+shop"])
    assert changes(found, "shop") == {"shop": "shop shop False", "site+shop": None}
    found = sites(app("site"), {"name": "shop", "state": "absent"}, there=["site"], mounts=["site+shop"])
    assert changes(found, "shop") == {"shop": None, "site+shop": None}
    assert found.held() == {"site": ["shop"]}


def test_owner_must_be_there_or_come_along():
    found = sites(app("site"), app("shop", "/shop"), there=["shop"])
    with pytest.raises(Refused, match=r"flask_apps_only names shop, but a.test is to be owned by site, which"):
        found.check(["shop"])
    found.check(["site", "shop"])
    sites(app("site"), app("shop", "/shop"), there=["site"]).check(["shop"])


def test_owner_on_the_host_that_is_not_in_the_list_is_named():
    found = sites(app("shop", "/shop"), there=["shop"], mounts=["old+shop"])
    with pytest.raises(Refused, match=r"The app old, which owns a\.test, is on this host but not in flask_apps"):
        found.check(["shop"])


def test_load_balancer_knows_the_longest_paths_first():
    apps = [app("site"), app("shop", "/shop"), app("desk", "/shop/desk")]
    variables = {"flask_apps": apps, "flask_apps_trusted_proxies": ["10.0.0.1"]}
    alone = {
        "sticky": False,
        "certificates": [],
        "virtual_addresses": [],
        "virtual_router": 51,
        "balancers": {},
        "me": "lb1",
    }
    numbers = {"http_port": 80, "https_port": 443, "check_seconds": 2, "slow_start_seconds": 0, "queue_seconds": 9}
    found = complete_balancer({"group": "web", "server_connections": 9, **numbers, **alone}, {"web1": variables})
    assert [(one["name"], one["path"]) for one in found["apps"]] == [
        ("desk", "/shop/desk"), ("shop", "/shop"), ("site", "")
    ]  # fmt: skip
    assert found["apps"][0]["health"]["path"] == "/shop/desk/"


def test_removal_takes_the_files_of_an_app_that_is_still_in_the_list():
    found = sites(app("site"), app("shop", "/shop"), there=("site", "shop"), mounts=("site+shop",))
    assert found.removal("shop") == [
        {"path": "/etc/nginx/flask_apps/site+shop.conf", "state": "absent"},
        {"path": f"{SITES}/flask_apps-shop.conf", "state": "absent"},
    ]
    assert {one["state"] for one in found.removal("gone")} == {"absent"}


def test_owner_that_is_not_in_the_list_gives_its_domain_to_the_next_one_unless_all_are_removed():
    found = sites(app("shop"), there=("shop",), mounts=("front+shop",))
    assert "content" in {key for one in found.removal("front") for key in one}
    assert found.removal("front", alone=True) == [{"path": f"{SITES}/flask_apps-front.conf", "state": "absent"}]
