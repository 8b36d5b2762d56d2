"""A thread that starts with the import of the app: a deploy says that it does not run in the workers."""

THREAD = """
import threading
threading.Thread(target=threading.Event().wait, name="scheduler", daemon=True).start()
from echo import application
"""


def test_thread_started_by_the_import_is_named_unless_intended(playbook, apps, variant):
    app = variant(apps["limited"] | {"app": "threaded:application"}, {"threaded.py": THREAD})
    run = playbook("deploy", "-e", "app=limited", variables={"flask_apps": [app]})
    assert not run.failed, run.error
    told = " ".join(run.output.split())
    assert "limited: threads that start while the app is imported (scheduler) do not run in its workers" in told
    app["workers"] = app["workers"] | {"import_threads": True}
    run = playbook("deploy", "-e", "app=limited", variables={"flask_apps": [app]})
    assert not run.failed, run.error
    assert "scheduler" not in run.output
