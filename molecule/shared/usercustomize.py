"""Run Ansible's modules in children of a process that has their libraries already. On test hosts only.

For each task Ansible starts a Python without arguments and pipes it a program: the module, zipped with the libraries it
needs. To unpack, compile and run these takes longer than most modules do. So the first such process leaves a server,
which imports Ansible's own libraries once (not the collection's: those are under test). For each later one a child of
the server runs the program, with the open files, environment and directory of the process that was started for it.
That saves a quarter of a scenario's processor time. Where there is no server, the program runs as ever.

No other process is concerned, and the apps, in their virtualenvs, do not see this file.
"""

import sys

CACHE = "/var/cache/ansible-python"
SOCKET = f"{CACHE}/socket"
LIBRARIES = f"{CACHE}/libraries"


class Payload:
    """Finds what is asked of Ansible's package in the zip of the program."""

    @staticmethod
    def find_spec(name, _path=None, _target=None):
        import zipimport

        if not name.startswith("ansible.") or not sys.path[0].endswith("_payload.zip"):
            return None
        parent = name.rpartition(".")[0].replace(".", "/")
        return zipimport.zipimporter(f"{sys.path[0]}/{parent}").find_spec(name)


class First:
    """Leaves a server when the first program begins to look for Ansible's libraries."""

    @staticmethod
    def find_spec(name, _path=None, _target=None):
        if name == "ansible" and sys.path[0].endswith("_payload.zip"):
            sys.meta_path.remove(First)
            leave_server(sys.path[0])


def leave_server(archive):
    """Start a server with the libraries in this zip."""
    import contextlib
    import os
    import zipfile

    with contextlib.suppress(FileExistsError, PermissionError):  # another one is at it; not root
        os.mkdir(CACHE, mode=0o700)
        with zipfile.ZipFile(archive) as libraries:
            names = libraries.namelist()
            libraries.extractall(LIBRARIES, [name for name in names if not name.startswith("ansible/modules/")])
        start()


def start():
    """Start the server."""
    import subprocess

    command = [sys.executable, "-c", "import usercustomize; usercustomize.serve()"]
    null = subprocess.DEVNULL
    subprocess.Popen(command, stdin=null, stdout=null, stderr=null, start_new_session=True, cwd="/")


def serve():
    """Let a child run each program that comes."""
    import os
    import signal
    import socket

    sys.path.insert(0, LIBRARIES)
    import ansible.module_utils._internal._ansiballz._loader  # noqa: F401

    sys.path.remove(LIBRARIES)
    sys.meta_path.insert(0, Payload)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(SOCKET)
    listener.listen(64)
    while True:
        connection, _address = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            child(connection)
        connection.close()


def child(connection):
    """Run the program of one process, and tell it the exit code."""
    import atexit
    import json
    import os
    import socket
    import traceback
    import types

    size, files, _flags, _address = socket.recv_fds(connection, 8, 3)
    text = b""
    while len(text) < int(size):
        text += connection.recv(int(size) - len(text))
    begin = json.loads(text)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(begin["environment"])
    os.chdir(begin["directory"])
    os.umask(begin["mask"])
    sys.argv, sys.orig_argv = [""], [sys.executable]
    program = sys.modules["__main__"] = types.ModuleType("__main__")
    status = 0
    try:
        exec(compile(sys.stdin.buffer.read(), "<stdin>", "exec"), program.__dict__)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    connection.send(bytes([status]))
    os._exit(0)


def hand_over():
    """Let the server run the program on stdin and exit as that does; return if there is no server."""
    import contextlib
    import json
    import os
    import socket

    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(SOCKET)
    except ConnectionRefusedError:  # it was killed
        with contextlib.suppress(FileNotFoundError):
            os.unlink(SOCKET)
        start()
        return
    except OSError:
        return
    mask = os.umask(0)
    begin = json.dumps({"environment": dict(os.environ), "directory": os.getcwd(), "mask": mask}).encode()
    socket.send_fds(connection, [f"{len(begin):8}".encode()], [0, 1, 2])
    connection.sendall(begin)
    status = connection.recv(1)
    os._exit(status[0] if status else 137)  # without a word: killed


if len(sys.orig_argv) == 1:
    hand_over()
    sys.meta_path.insert(0, First)
