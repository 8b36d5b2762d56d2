"""Django runs from its release and keeps its data where releases do not reach."""

import json

SHARED = "/srv/flask_apps/site/shared"
MIGRATE = f"""
cd /srv/flask_apps/site/current/src
export DJANGO_SECRET_KEY=x DJANGO_DB_PATH={SHARED}/db.sqlite3 PYTHONDONTWRITEBYTECODE=1
setpriv --reuid=site --regid=site --clear-groups ../venv/bin/python manage.py migrate
"""


def test_project_answers(host):
    host.check_output("sh -ec %s", MIGRATE)
    script = "import urllib.request as u; print(u.urlopen('http://127.0.0.1/', timeout=40).read().decode())"
    answer = json.loads(host.check_output("python3 -c %s", script))
    assert answer["version"].startswith("5.2")
    assert answer["prefix"].startswith("/srv/flask_apps/site/releases/")
    assert answer["migrations"] > 0
    assert host.file(f"{SHARED}/db.sqlite3").user == "site"
