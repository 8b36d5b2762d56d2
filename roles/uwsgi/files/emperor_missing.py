"""What else an app imports that is not there, so that one run tells all of it, and not one module at a time.

Reads the source and runs nothing of it: from the module of the app on, what each module imports as it is imported
itself; not what it tries, or imports under a condition or in a function. Of Django the apps and the middleware, too.
"""

import ast
import importlib.util
import os
import sys

MOST, LARGEST = 2000, 1 << 20  # files that are read, bytes of each
DJANGO = ("INSTALLED_APPS", "MIDDLEWARE")


def file_of(name):
    """The file of a module of the source, and the package in which its relative imports are; None where it is none."""
    for root in [path for path in map(os.path.abspath, sys.path) if f"{path}/".startswith(f"{os.getcwd()}/")]:
        path = os.path.join(root, *name.split("."))
        if os.path.isfile(f"{path}/__init__.py"):
            return f"{path}/__init__.py", name
        if os.path.isfile(f"{path}.py"):
            return f"{path}.py", name.rpartition(".")[0]
    return None


def prefixes(name):
    """The packages around a module, from the top, and the module."""
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts) + 1)]


def imported_by(body, package):
    """The names of what these statements import, and of what may be modules in it."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{one.name}" for one in node.names)
        elif isinstance(node, (ast.ClassDef, ast.With)):
            yield from imported_by(node.body, package)
        elif isinstance(node, ast.Assign) and any(getattr(one, "id", "") in DJANGO for one in node.targets):
            listed = getattr(node.value, "elts", ())
            for text in [one.value for one in listed if isinstance(one, ast.Constant) and isinstance(one.value, str)]:
                yield from (f"{one}.models" for one in prefixes(text))


def read(file, package):
    """What a file imports; nothing of one that is no Python."""
    try:
        with open(file, "rb") as opened:
            return [*imported_by(ast.parse(opened.read(LARGEST)).body, package)]
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def there(name):
    """Whether Python finds a module or package that is at the top."""
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError, AttributeError):
        return True  # who can tell


def missing(*names):
    """The modules that are missing, from those of these names on.

    :param names: of modules that are imported.
    """
    waiting, seen, found = list(names), set(), {}
    while waiting and len(seen) < MOST:
        for name in prefixes(waiting.pop(0)):
            file = file_of(name)
            if not file and "." not in name and name not in seen and not there(name):
                found[name] = True
            if file and name not in seen:
                waiting += read(*file)
            seen.add(name)
            if not file:
                break
    return list(found)


def note(error, module):
    """Let an error tell what else is missing.

    :param error: that a module was not found.
    :param module: the app's, which was to be imported.
    """
    others = [one for one in missing(module, os.environ.get("DJANGO_SETTINGS_MODULE") or module)
              if one != str(error.name).split(".")[0]]  # fmt: skip
    if others and hasattr(error, "add_note"):  # since Python 3.11
        error.add_note(f"Also missing: {', '.join(others)}")
