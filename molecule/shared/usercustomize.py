"""Keep what Python compiles of Ansible's modules, which saves a fifth of a scenario's time. On test hosts only.

Ansible brings every module with its libraries as a zip of sources, which Python compiles anew for each task. It starts
such a process without arguments; no other process is concerned, the apps in their virtualenvs do not see this file.
"""

import sys

if len(sys.orig_argv) == 1:
    import contextlib
    import hashlib
    import marshal
    import os
    import zipimport

    CACHE = "/var/cache/ansible-python"
    compile_source = zipimport._compile_source

    def kept(path, source):
        """Compile a source, unless the same one was compiled before."""
        name = path.rpartition(".zip")[2]  # the zip is another one each time
        key = hashlib.sha256(b"\0".join([source, name.encode(), sys.version.encode()])).hexdigest()
        with contextlib.suppress(OSError), open(f"{CACHE}/{key}", "rb") as file:
            return marshal.load(file)
        code = compile_source(path, source)
        with contextlib.suppress(OSError):
            os.makedirs(CACHE, mode=0o700, exist_ok=True)
            with open(f"{CACHE}/{key}.{os.getpid()}", "wb") as file:
                marshal.dump(code, file)
            os.replace(file.name, f"{CACHE}/{key}")
        return code

    zipimport._compile_source = kept
