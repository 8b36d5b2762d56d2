"""What the tests of the vassals share."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.flaskops.emperor.plugins.module_utils import (
    emperor_unit,
    links,
    processes,
    uwsgi_client,
)
from ansible_collections.flaskops.emperor.plugins.module_utils import host as host_files
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal import (
    drain,
    health,
    slots,
    store,
    switch,
    timing,
    trial,
    watch,
)
from ansible_collections.flaskops.emperor.plugins.module_utils.vassal.modes import MODES
from ansible_collections.flaskops.emperor.plugins.modules import vassal
from vassal_host import MIB, SERVER, STEP_IN, Host, Killed, config, generation


@pytest.fixture(autouse=True)
def no_real_process(monkeypatch):
    """The module ends all processes of a user: here none is to be found, and none is killed."""
    monkeypatch.setattr(processes, "of_user", lambda uid: [])
    monkeypatch.setattr(processes, "kill", lambda *_arguments: None)


@pytest.fixture(autouse=True)
def no_long_wait(monkeypatch):
    """No instance is told or killed for being slow on a busy machine: a test of that says after how long it is."""
    for name, seconds in (("PAUSE", 0.005), ("EMPEROR", 5), ("HANGS", 60), ("AGAIN", 60)):
        monkeypatch.setattr(timing, name, seconds)


@pytest.fixture
def impatient(params, monkeypatch):
    """Where a test waits in vain it does not wait long, but for the answer of an app long enough on a busy machine."""
    params.update(start_timeout=1, drain_timeout=0)
    monkeypatch.setattr(timing, "EMPEROR", 0.35)


@pytest.fixture
def params(tmp_path):
    for name in ("vassals", "run/shop", "run-sockets/shop", "home"):
        (tmp_path / name).mkdir(parents=True)
    return {
        "name": "shop",
        "directory": str(tmp_path / "vassals"),
        "run": str(tmp_path / "run/shop"),
        "reload": "zerg",
        "link": None,
        "release": None,
        "serving": str(tmp_path / "home/serving"),  # only for the tests
        "upstream": str(tmp_path / "home/upstream.sock"),
        "wrapper": str(tmp_path / "wrapper"),
        "health_path": "/healthz",
        "health_status": 200,
        "health_host": "shop.example.com",
        "start_timeout": 5,
        "drain_timeout": 5,
        "memory_reserve": 64,
        "memory_limit": 0,
        "size": str(tmp_path / "home/size.json"),
        "tried": "",
    }


@pytest.fixture
def units(tmp_path, monkeypatch):
    """The directory of systemd's units."""
    found = tmp_path / "units"
    found.mkdir()
    monkeypatch.setattr(emperor_unit, "UNITS", found)
    return found


@pytest.fixture
def host(params, units, deeds, program, monkeypatch):
    """A host, with the trial start as good as passed."""
    program("journalctl", 'echo "the log of $*"')
    program("systemctl", "true")
    found: Any = Host(params)
    found.said = lambda _config: []  # warnings of a trial start
    for name in ("of_file", "find", "kill", "connections"):
        monkeypatch.setattr(processes, name, getattr(found, name))
    monkeypatch.setattr(processes, "alive", lambda process: process in found.alive)
    monkeypatch.setattr(processes, "with_descendants", list)
    monkeypatch.setattr(processes, "available_memory", lambda: 1000 * MIB)

    def start(app, config):
        found.tried.append(config.render())
        app.warnings += found.said(config)
        return found.memory

    monkeypatch.setattr(trial, "start", start)
    yield found
    found.stop()


@pytest.fixture
def timeouts(monkeypatch):
    """How long was waited for each answer; none comes."""
    waited: list[float] = []

    def request(*_arguments, timeout, **_more):
        waited.append(timeout)
        raise TimeoutError if len(waited) != 2 else ConnectionRefusedError

    monkeypatch.setattr(uwsgi_client, "request", request)
    return waited


@pytest.fixture
def releases(params, tmp_path):
    """Virtualenvs of releases, made of the same unless said otherwise; returns the directory of one."""

    def make(name, python="3.13.5", uwsgi="2.0.30"):
        venv = tmp_path / "home/releases" / name / "venv"
        if not venv.exists():
            (venv / f"lib/python3.13/site-packages/pyuwsgi-{uwsgi}.dist-info").mkdir(parents=True)
            config = f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {python}\n"
            (venv / "pyvenv.cfg").write_text(config + f"command = python3 -m venv {venv}\n")
        return str(tmp_path / "home/releases" / name)

    return make


@pytest.fixture
def go(host, releases):
    """Deploy a release in the mode chain."""

    def deploy(name, *, content=None, **more):
        chain = {"reload": "chain", "link": host.params["serving"], "release": releases(name)}
        return host.deploy(content=content or host.config("chain"), **chain, **more)

    return deploy


@pytest.fixture
def way(host, releases):
    """Which way is gone to a content, from release r1 to r2."""

    def choose(reload, content, release="r2"):
        chain = {"link": host.params["serving"], "release": releases(release)} if reload == "chain" else {}
        return switch.way(host.app(reload=reload, start_timeout=0.2, **chain), content)

    return choose


@pytest.fixture
def running(host, releases):
    """A healthy instance in release r1."""
    Path(host.params["serving"]).symlink_to(releases("r1"))
    return host.put("blue", host.config("chain"), age=60)


@pytest.fixture
def limited(host, tmp_path, monkeypatch):
    """What the Emperor would read for the next instance, and the limit of those that run, in MiB."""
    held = tmp_path / "MemoryMax"
    held.write_text("infinity")
    monkeypatch.setattr(emperor_unit, "limited", lambda _app: held.read_text())
    monkeypatch.setattr(emperor_unit, "limit", lambda _app, most: held.write_text(most))

    def limits():
        texts = [host_files.read(str(path)) for path in (Path(host.app().limit), held)]
        return [text and (text if text == "infinity" else int(text) // MIB) for text in texts]

    return limits, held


@pytest.fixture
def kill_at(host, monkeypatch):
    """Let a deploy be killed where this function of the module is called; a switch that was begun stays."""

    def at(name, deploy):
        def killed(*_arguments, **_more):
            raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(STEP_IN[name], name, killed)
            if name in switch.WAYS:
                patch.setitem(switch.WAYS, name, killed)
            with pytest.raises(Killed):
                deploy()
        assert os.path.exists(host.app().note)

    return at


@pytest.fixture
def killed(host, kill_at, monkeypatch):
    """Deploy "1", and then another version in a run that is killed at some step."""

    def at(step, version="2", reload="zerg"):
        host.deploy("1")
        host.commit()
        if step == "not started yet":
            kill_at(MODES[reload].way, lambda: host.deploy(version, reload=reload))
        elif step == "started":
            kill_at("watch", lambda: host.deploy(version, reload=reload))
        elif step == "written":
            real = health.wait

            def wait(app, sock, wanted, *rest):
                if wanted == generation(host, version):
                    raise Killed
                real(app, sock, wanted, *rest)

            monkeypatch.setattr(health, "wait", wait)
            with pytest.raises(Killed):
                host.deploy(version, reload=reload)
            monkeypatch.setattr(health, "wait", real)
        else:
            host.deploy(version, reload=reload)
        assert os.path.exists(host.app().note)

    return at


@pytest.fixture
def ending(host, monkeypatch):
    """A running instance, a function that ends it, and the signals since."""
    instance = host.put("blue", host.config("1"))
    instance.workers_at_first = [worker.process for worker in instance.workers]

    def end(**more):
        drain.stop(host.app(**more), host.app().slots[0])

    return SimpleNamespace(instance=instance, end=end, signals=host.signals)


@pytest.fixture
def two(host):
    """Two instances whose clients come to the socket of the slot, the older in blue."""
    old = host.put("blue", host.config("1", clients="slot"), age=60)
    new = host.put("green", host.config("2", clients="slot"))
    return SimpleNamespace(old=old, new=new, blue=host.path("blue.sock"), green=host.path("green.sock"))


@pytest.fixture
def reached(host):
    """The socket to which clients come, by its file name."""
    return lambda: os.path.basename(links.target(host.params["upstream"]))


@pytest.fixture
def dying(monkeypatch):
    """Look whether workers die, when the statistics socket tells this, or raises that."""
    tells: list[Any] = []

    def statistics(sock, timeout):
        if isinstance(tells[-1], OSError):
            raise tells[-1]
        return tells[-1]

    monkeypatch.setattr(uwsgi_client, "statistics", statistics)
    look = watch.deaths("/stats")

    def told(one):
        tells.append(one)
        return look()

    return told


@pytest.fixture
def tried_start(params, deeds, tmp_path, sandboxed):
    (tmp_path / "wrapper").write_text(SERVER)
    (tmp_path / "wrapper").chmod(0o755)

    def run(version, *arguments, **more):
        wanted = config(version, *arguments, held=slots.held(params["run"]))
        return trial.start(store.App({**params, "start_timeout": 20, **more}), wanted)

    return run


@pytest.fixture
def module(run_module, params, host):
    own = ("serving", "start_timeout", "drain_timeout", "link", "release")
    arguments = {name: value for name, value in params.items() if name not in own}
    arguments.update(start_timeout=1, drain_timeout=0)

    def run(version="1", environment=None, **more):
        needed = more.get("state", "switched") in ("switched", "trial")
        wanted = host.config(version, environment)
        data = {"config": {"launch": wanted.launch, "options": wanted.options}} if needed else {}
        return run_module(vassal, **{**arguments, **data, **more})

    return run
