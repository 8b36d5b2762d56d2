"""The program that puts a vassal into the control group of its app, on a tree of plain files."""

from pathlib import Path

import pytest
from role_program import load

PROGRAM = Path(__file__).parents[2] / "roles/uwsgi/files/memory_limit.py"
memory_limit = load(PROGRAM)


class Tree:
    """The Emperor's control group as a kernel would show it, and the directory of its vassal files.

    Every file keeps the last text that was written; the kernel's rules are checked as far as they matter.
    """

    def __init__(self, root):
        self.unit, self.vassals = root / "emperor.service", root / "vassals"
        self.unit.mkdir()
        self.vassals.mkdir()
        self.file = self.vassals / "shop.blue.ini"
        self.put(self.unit, controllers="cpu memory pids", subtree_control="", procs="10\n11\n")
        self.moved = []

    def put(self, group, **files):
        for name, text in files.items():
            group.joinpath(f"cgroup.{name}").write_text(text)

    def write(self, file, text):
        """What the kernel would do."""
        if not file.parent.exists():
            raise FileNotFoundError(file)
        if file.name == "cgroup.procs":
            self.moved.append((text, file.parent.name))
            rest = self.unit.joinpath("cgroup.procs").read_text().split()
            self.put(self.unit, procs="\n".join(pid for pid in rest if pid != text))
        elif file.name == "cgroup.subtree_control":
            assert not self.unit.joinpath("cgroup.procs").read_text().split(), "EBUSY: it has processes of its own"
            self.put(self.unit, subtree_control="memory")
        else:
            assert "memory" in self.unit.joinpath("cgroup.subtree_control").read_text(), (
                "the group has no such file yet"
            )
            file.write_text(text)

    def confine(self, pid=11):
        return memory_limit.confine(self.unit, self.file, pid)


@pytest.fixture
def tree(tmp_path, monkeypatch):
    made = Tree(tmp_path)
    monkeypatch.setattr(memory_limit, "write", made.write)
    return made


def test_emperor_leaves_its_group_and_the_vassal_gets_a_limited_one(tree):
    tree.vassals.joinpath("shop.limit").write_text("268435456")
    assert tree.confine()
    assert tree.moved == [("10", "emperor"), ("11", "emperor"), ("11", "app-shop")]
    assert tree.unit.joinpath("app-shop/memory.max").read_text() == "268435456"


def test_second_vassal_finds_the_group_already_divided(tree):
    tree.confine()
    tree.moved.clear()
    tree.file = tree.vassals / "api.green.ini"
    assert tree.confine(12)
    assert tree.moved == [("12", "app-api")]


def test_both_instances_of_an_app_share_a_group(tree):
    tree.confine()
    tree.file = tree.vassals / "shop.green.ini"
    tree.confine(12)
    assert tree.moved[-2:] == [("11", "app-shop"), ("12", "app-shop")]


def test_an_app_without_a_limit_has_none(tree):
    tree.confine()
    assert tree.unit.joinpath("app-shop/memory.max").read_text() == "max"


def test_app_gets_no_swap_where_the_host_has_swap(tree):
    group = tree.unit / "app-shop"
    group.mkdir()
    group.joinpath("memory.swap.max").write_text("max")
    tree.confine()
    assert group.joinpath("memory.swap.max").read_text() == "0"


def test_limit_is_set_before_the_vassal_enters_the_group(tree, monkeypatch):
    """The vassal goes on as soon as it is in its group."""
    seen = []

    def write(file, text):
        seen.append(f"{file.parent.name}/{file.name}")
        tree.write(file, text)

    monkeypatch.setattr(memory_limit, "write", write)
    tree.confine()
    assert seen.index("app-shop/memory.max") < seen.index("app-shop/cgroup.procs")


def test_no_process_moves_where_systemd_delegates_no_memory(tree):
    tree.put(tree.unit, controllers="cpu pids")
    assert not tree.confine()
    assert not tree.moved


@pytest.mark.parametrize(
    ("text", "group"),
    [
        ("0::/system.slice/emperor.service\n", "/system.slice/emperor.service"),
        ("5:memory:/x\n1:name=systemd:/y\n", None),
        ("5:memory:/x\n0::/y\n", "/y"),
        ("", None),
    ],
)
def test_own_group_is_read_from_proc(text, group):
    assert memory_limit.own(text) == group


def test_write_needs_an_existing_file_and_uses_one_call(tmp_path):
    tmp_path.joinpath("memory.max").write_text("")
    memory_limit.write(tmp_path / "memory.max", "17")
    assert tmp_path.joinpath("memory.max").read_text() == "17"
    with pytest.raises(FileNotFoundError):
        memory_limit.write(tmp_path / "memory.swap.max", "0")
