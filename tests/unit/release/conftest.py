"""What the tests of the module `release` share: the directory of an app, and releases built in it."""

import io
import tarfile

import pytest
from ansible_collections.flaskops.emperor.plugins.modules import release

# Tells a version, which may change.
INTERPRETER = 'echo "$(cat "$0.version" 2>/dev/null || echo 3.13.5)"'

# Makes a virtualenv, and writes down how and where it was called; fails on demand.
UV = """
case "$1" in
  venv)
    test -e "$0.fails" && { echo "no venv today"; exit 1; }
    for last; do :; done
    mkdir -p "$last/bin" "$last/lib/python3.13/site-packages/shop/static"
    echo "command = uv venv $last" > "$last/pyvenv.cfg"
    cat > "$last/bin/python" <<'PYTHON'
#!/bin/sh
case "$*" in
  *purelib*) echo "$(cd "$(dirname "$0")/.." && pwd)/lib/python3.13/site-packages" ;;
  *compileall*) mkdir "$5/__pycache__" ;;
esac
PYTHON
    chmod +x "$last/bin/python" ;;
  *)
    printf '%s\\n' "$*" >> "$VIRTUAL_ENV/calls"
    printf '%s=%s\\n' HOME "$HOME" PATH "$PATH" TOKEN "$TOKEN" https_proxy "$https_proxy" > "$VIRTUAL_ENV/env"
    printf '%s' "$UV_DEFAULT_INDEX" > "$VIRTUAL_ENV/index"
    test ! -e "$0.does" || . "$0.does"
    case "$*" in *broken*) seq 60; echo "no matching distribution at $UV_DEFAULT_INDEX"; exit 1 ;; esac ;;
esac
"""

# Runs a command as systemd would, except that it is confined to nothing.
SYSTEMD_RUN = """
while [ "$1" != -- ]; do
  case "$1" in
    --working-directory=*) directory=${1#*=} ;;
    --property=EnvironmentFile=*) file=${1#--property=EnvironmentFile=} ;;
  esac
  shift
done
shift
cd "$directory" && exec env -i sh -c 'set -a && . "$0" && exec "$@"' "$file" "$@"
"""


@pytest.fixture
def home(tmp_path):
    """The directory of an app, as the role makes it."""
    root = tmp_path / "home"
    for name in ("releases", "static", "shared"):
        (root / name).mkdir(parents=True)
    return root


@pytest.fixture
def interpreter(program):
    return program("python-of-the-host", INTERPRETER)


@pytest.fixture
def uv(program, sandboxed):
    program("systemd-run", SYSTEMD_RUN)
    program("systemctl", "")
    return program("uv", UV)


@pytest.fixture
def bundle(home):
    """Bring a source to the host."""

    def make(**files):
        file = home / "bundle.tar.gz"
        with tarfile.open(file, "w:gz") as archive:
            for name, text in {"app.py": "app = 1", "static/app.css": "b {}", "requirements.txt": "", **files}.items():
                info = tarfile.TarInfo(name)
                info.size, info.mtime, info.mode = len(text), 1_100_000_000, 0o644
                archive.addfile(info, io.BytesIO(text.encode()))
        return str(file)

    return make


@pytest.fixture
def built(run_module, home, interpreter, uv, bundle, deeds):
    """Build a release through the module."""

    def make(name, **more):
        if "bundle" not in more:
            more["bundle"] = bundle()
        arguments = {
            "user": "shop",
            "interpreter": interpreter,
            "installer": uv,
            "static": {"/static": "static"},
            **more,
        }
        return run_module(release, home=str(home), state="built", id=name, **arguments)

    return make


@pytest.fixture
def current(run_module, home):
    def activate(name, **more):
        return run_module(release, home=str(home), state="current", id=name, **more)

    return activate
