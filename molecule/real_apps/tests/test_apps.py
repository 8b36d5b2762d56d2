"""Each app, deployed by nothing but its inventory, does through nginx what it is there for."""

import json
from urllib.parse import urlencode

CREATE_ADMIN = """
cd /srv/flask_apps/site/current/src
export HOME=/srv/flask_apps/site/shared DJANGO_SECRET_KEY=x DJANGO_SUPERUSER_PASSWORD=only-in-a-test
setpriv --reuid=site --regid=site --clear-groups ../venv/bin/python manage.py createsuperuser --noinput \
  --username=admin --email=admin@site.test 2>&1 | grep -e created -e taken
"""
CALENDAR = """BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//test//EN
BEGIN:VEVENT
UID:one@test
DTSTAMP:20260101T000000Z
DTSTART:20260102T100000Z
SUMMARY:A calendar entry
END:VEVENT
END:VCALENDAR
"""


def test_flaskr_shows_its_login_page_and_its_style(browser):
    ask = browser("flaskr")
    assert "Log In" in ask("/auth/login").text
    style = ask("/static/style.css")
    assert style.status == 200
    assert "ETag" in style.headers


def test_django_admin_lets_a_user_log_in_and_has_its_style_from_the_build(browser, form, host_of):
    host_of("site").check_output("sh -ec %s", CREATE_ADMIN)
    ask = browser("site")
    page = ask("/admin/login/?next=/admin/").text
    fields = {"username": "admin", "password": "only-in-a-test", "next": "/admin/"}
    fields["csrfmiddlewaretoken"] = form(page, "csrfmiddlewaretoken")
    assert "Site administration" in ask("/admin/login/", urlencode(fields).encode()).text
    style = ask("/static/admin/css/base.css")
    assert style.status == 200
    assert "text/css" in style.headers["Content-Type"]


def test_first_deploy_makes_the_tables_that_the_page_behind_the_health_check_needs(browser):
    """The entry has no `health`: `/` leads to a page that needs the tables, which before_switch makes."""
    found = browser("site")("/")
    assert (found.status, found.text.endswith(" people")) == (200, True)


def test_django_keeps_an_upload_which_nginx_serves(browser, host_of):
    ask, text = browser("site"), "a text\x00 with a zero\n"
    part = 'Content-Disposition: form-data; name="file"; filename="report.txt"\r\nContent-Type: text/plain'
    body = f"--cut\r\n{part}\r\n\r\n{text}\r\n--cut--\r\n".encode()
    address = ask("/upload", body, "POST", Content_Type="multipart/form-data; boundary=cut").text
    assert address.startswith("/media/report")
    served = ask(address)
    assert (served.status, served.text) == (200, text)
    assert "Set-Cookie" not in served.headers
    assert host_of("site").file(f"/srv/flask_apps/site/shared{address}").user == "site"


def test_exception_that_django_answers_itself_is_in_the_journal_once(browser, host_of):
    assert browser("site")("/upload", b"", "POST").status == 500
    journal = "journalctl --no-pager --quiet -t site | grep 'MultiValueDictKeyError: '"
    found = host_of("site").check_output(f'timeout 60 sh -c "until {journal}; do sleep 0.2; done"')
    assert len(found.splitlines()) == 1


def test_isso_takes_a_comment_and_shows_it(browser):
    ask = browser("isso")
    comment = json.dumps({"text": "A comment that is long enough", "title": "Post"}).encode()
    assert ask("/new?uri=%2Fpost%2F", comment, Content_Type="application/json").status == 201
    assert "A comment that is long enough" in ask("/?uri=%2Fpost%2F").text


def test_httpbin_tells_what_it_was_asked(browser):
    ask = browser("httpbin")
    assert json.loads(ask("/get?a=1").text)["args"] == {"a": "1"}
    assert json.loads(ask("/post", b"b=2").text)["form"] == {"b": "2"}


def test_nobody_is_believed_where_no_proxy_is_trusted(browser):
    said = {"X_Forwarded_For": "203.0.113.7", "X_Forwarded_Host": "evil.test", "X_Forwarded_Port": "1"}
    answer = browser("httpbin")("/get?show_env=1", X_Forwarded_Proto="gopher", X_Request_ID="forged", **said)
    told = json.loads(answer.text)
    assert told["url"] == "http://httpbin.test/get?show_env=1"
    assert not {"forged", *said.values()} & {told["origin"], *told["headers"].values()}
    assert told["headers"]["X-Forwarded-Proto"] == "http"
    assert told["headers"]["X-Request-Id"] == answer.headers["x-request-id"]


def test_radicale_keeps_a_calendar(browser):
    ask = browser("radicale")
    assert ask("/me/", method="MKCOL").status in (201, 405)  # there already
    assert ask("/me/days/", CALENDAR.encode(), "PUT", Content_Type="text/calendar").status == 201
    assert "A calendar entry" in ask("/me/days/").text


def test_project_of_uv_has_its_locked_packages_extras_and_groups(browser):
    found = json.loads(browser("notes")("/").text)
    assert found.pop("file").startswith("/srv/flask_apps/notes/releases/")
    assert found == {"notes": "1.4.0", "flask": "3.1.2", "markdown": "3.9", "humanize": "4.13.0", "pytest": None}


def test_project_of_poetry_has_its_locked_packages_and_extras(browser):
    found = json.loads(browser("poll")("/").text)
    assert found.pop("file").startswith("/srv/flask_apps/poll/releases/")
    assert found.pop("python") == "/usr"
    assert found == {"poll": "0.3.0", "bottle": "0.13.4", "ujson": "5.11.0", "pytest": None, "humanize": None}


def test_model_is_loaded_once_and_answers_in_every_worker(browser):
    ask = browser("model")
    first = json.loads(ask("/?number=3").text)
    assert first["worker"] != first["loaded_by"]
    workers = {first["worker"]}
    for _request in range(100):
        found = json.loads(ask("/?number=3").text)
        assert found | {"worker": 0} == first | {"worker": 0}
        workers.add(found["worker"])
        if len(workers) > 1:
            break
