"""The house stays one to read: no file, function or role grows beyond what a person can take in."""

import ast
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILE, FUNCTION = 400, 60  # lines of Python
FILES, TASKS = 20, 350  # task files of a role, and the lines of all of them
# Over the limits: what goes out of it next is in issue 17.
LARGE: set[str] = set()

LISTED = subprocess.check_output(["git", "ls-files", "-z", "*.py"], cwd=ROOT, text=True).split("\0")
SOURCES = [name for name in LISTED if name and (ROOT / name).exists() and not (ROOT / name).is_symlink()]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())


def lines_of(node):
    """How many lines a function has, decorators included."""
    first = min(one.lineno for one in (node, *node.decorator_list))
    return node.end_lineno - first + 1


def test_no_python_file_has_more_than_400_lines():
    lengths = {name: len((ROOT / name).read_text().splitlines()) for name in SOURCES}
    assert len(lengths) > 200
    assert {name: length for name, length in lengths.items() if length > FILE} == {}


def test_no_python_function_has_more_than_60_lines():
    functions = {
        f"{name}: {node.name}": lines_of(node)
        for name in SOURCES
        for node in ast.walk(ast.parse((ROOT / name).read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    assert len(functions) > 1000
    assert {name: length for name, length in functions.items() if length > FUNCTION} == {}


@pytest.mark.parametrize("role", sorted(set(ROLES) - LARGE))
def test_role_has_at_most_20_task_files_and_350_task_lines(role):
    files = list((ROOT / "roles" / role / "tasks").glob("**/*.yml"))
    assert 0 < len(files) <= FILES
    assert sum(len(file.read_text().splitlines()) for file in files) <= TASKS
