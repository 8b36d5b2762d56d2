"""Deploys, rollbacks, other settings: clients notice none of them."""

import time

MARK = "\nMARK = {!r}\n"


def text_of(app, name):
    with open(f"{app['source']['path']}/{name}", encoding="utf-8") as file:
        return file.read()


def other(app, variant, mark):
    """A good release which differs in content."""
    return variant(app, {"shop/pages.py": text_of(app, "shop/pages.py") + MARK.format(mark)})


def test_new_release_and_rollback_lose_no_request(app, variant, playbook, release_of, clients, fleet):
    first = release_of()
    with clients() as crowd:
        time.sleep(1)
        run = playbook("deploy", "-e", "app=shop", variables={"flask_apps": [other(app, variant, "two")]})
        assert not run.failed, run.error
        second = release_of()
        assert not set(first.values()) & set(second.values())
        run = playbook("rollback", "-e", "app=shop")
        assert not run.failed, run.error
        assert release_of() == first
        time.sleep(1)
    assert crowd.answers[200] > 500
    assert not crowd.failures, (len(crowd.failures), crowd.failures[:5])
    for host in fleet:
        assert host.file("/srv/flask_apps/shop/current").linked_to.endswith(first[host.backend.name])


def test_second_rollback_skips_the_release_that_was_left(playbook, release_of):
    before = release_of()
    run = playbook("rollback", "-e", "app=shop")
    assert run.failed
    assert "no earlier release that worked" in run.error
    assert release_of() == before


def test_rollback_to_a_release_by_name(playbook, release_of, fleet):
    first = release_of()
    described = fleet[0].check_output("grep -l activated /srv/flask_apps/shop/releases/*/release.json").split()
    (wanted,) = {path.split("/")[-2] for path in described} - set(first.values())
    run = playbook("rollback", "-e", "app=shop", "-e", f"release={wanted}")
    assert not run.failed, run.error
    assert set(release_of().values()) == {wanted}
    run = playbook("rollback", "-e", "app=shop", "-e", "release=0123456789ab")
    assert run.failed
    assert "0123456789ab" in run.error
    assert wanted in run.error, "the refusal does not tell which releases there are"


def test_site_returns_to_what_the_inventory_says(playbook, release_of):
    before = release_of()
    run = playbook("site")
    assert not run.failed
    assert not set(before.values()) & set(release_of().values())
    run = playbook("site")
    assert run.changed == 0, run.output


def test_changed_header_of_nginx_never_touches_python(app, playbook, processes, fleet):
    before = processes()
    run = playbook("site", variables={"flask_apps": [app | {"max_body_size": "64m"}]})
    assert not run.failed
    assert processes() == before
    assert all("64m" in host.file("/etc/nginx/sites-enabled/flask_apps-shop.conf").content_string for host in fleet)


def test_changed_environment_reaches_the_app_without_a_new_release(app, playbook, release_of, clients, fleet):
    before = release_of()
    changed = app | {"environment": {"SHOP_COLOUR": "red"}}
    with clients() as crowd:
        run = playbook("deploy", "-e", "app=shop", variables={"flask_apps": [changed]})
    assert not run.failed
    assert not crowd.failures
    assert release_of() == before
    for host in fleet:
        script = "import urllib.request as u; print(u.urlopen('http://127.0.0.1/env?name=SHOP_COLOUR').read().decode())"
        assert '"red"' in host.check_output("python3 -c %s", script)
        gone = host.check_output("cat /proc/$(pgrep -u shop -n)/environ | tr '\\0' '\\n'")
        assert "SHOP_SECRET" not in gone, "a variable that was taken away is still there"


def test_source_of_a_release_is_compiled_and_of_root_without_a_sandbox_for_that(app, variant, playbook, fleet):
    (host,) = fleet
    cursor = host.check_output("journalctl -q -n 1 --show-cursor").rpartition("cursor: ")[2].strip()
    run = playbook("deploy", "-e", "app=shop", variables={"flask_apps": [other(app, variant, "compiled")]})
    assert not run.failed, run.error
    find = "cd -P /srv/flask_apps/shop/current/src && find . -name '*.py{}' -printf '%u %f\\n'"
    owners = {tuple(line.split()) for line in host.check_output(find.format("")).splitlines()}
    compiled = {tuple(line.split()) for line in host.check_output(find.format("c")).splitlines()}
    assert {(user, name.split(".")[0]) for user, name in compiled} == {(user, name[:-3]) for user, name in owners}
    assert {user for user, _name in compiled} == {"root"}
    assert host.check_output(f"journalctl -q -u emperor-build-shop.service --after-cursor='{cursor}'") == ""


def test_old_releases_are_removed_and_their_assets_with_them(app, variant, playbook, fleet):
    for number in range(3):
        variables = {"flask_apps": [other(app, variant, f"keep {number}")], "flask_apps_keep_releases": 2}
        run = playbook("deploy", "-e", "app=shop", "--limit=webservers[0]", variables=variables)
        assert not run.failed, run.error
    releases = fleet[0].check_output("ls /srv/flask_apps/shop/releases").split()
    assert len(releases) == 2
    links = fleet[0].check_output("cd /srv/flask_apps/shop/static && find . -maxdepth 1 -type l | sort").split()
    assert links == ["./0", "./1", "./2"], "one link a release, and one to move them by"
    assert fleet[0].run("find /srv/flask_apps/shop/static -xtype l").stdout == "", "links that lead nowhere"


def test_next_run_serves_what_changed_on_disk(playbook, fleet):
    """As after a run that was killed between writing a file and reloading: no handler would ever come again."""
    host = fleet[0]
    host.check_output("printf 'map $uri $unused { default 1; }\\n' > /etc/nginx/conf.d/by_hand.conf")
    run = playbook("site", "--limit=webservers[0]")
    assert not run.failed
    assert run.changed >= 1, "a file that was written and never read was not noticed"
    host.check_output("rm /etc/nginx/conf.d/by_hand.conf")
    run = playbook("site", "--limit=webservers[0]")
    assert run.changed >= 1, "a removed file was not noticed"
    assert playbook("site", "--limit=webservers[0]").changed == 0
