"""role_docs.py sees each kind of drift. Every test breaks one thing in a small role that is otherwise right."""

from pathlib import Path

import pytest
import yaml
from role_program import load

_SCRIPT = Path(__file__).parents[1] / "lint" / "role_docs.py"
role_docs = load(_SCRIPT)

SPEC = """
argument_specs:
  main: &main
    short_description: A shop.
    options:
      shop_port:
        type: int
        default: 80
        description: Port to listen on.
      shop_home:
        type: path
        default: "{{ shop_root }}/home"
        description: Where it lives.
      shop_owner:
        type: str
        required: true
        description: Who may edit O(shop_home).
      shop_items:
        type: list
        elements: dict
        default: []
        description:
          - What is for sale.
          - Sold in order.
        options:
          name:
            type: str
            required: true
            description: Its name.
          price:
            type: dict
            description: What it costs.
            options:
              currency:
                type: str
                default: EUR
                choices: [EUR, "no"]
                description: The ISO code, like a|b.
  remove: *main
"""
DEFAULTS = """
shop_port: 80
shop_home: "{{ shop_root }}/home"
shop_items: []
__shop_private: 1
"""
README = f"# shop\n\nbefore\n\n{role_docs.BEGIN}\n{role_docs.END}\n\nafter\n"


class Role:
    """A role on disk that a test can bend."""

    def __init__(self, path):
        self.path = path
        self.spec = yaml.safe_load(SPEC)
        self.defaults = yaml.safe_load(DEFAULTS)
        self.options = self.spec["argument_specs"]["main"]["options"]
        self.readme = path / "README.md"
        for folder in ("meta", "defaults"):
            (path / folder).mkdir(parents=True)
        self.readme.write_text(README)
        self.save()
        assert role_docs.check_role(path, write=True) == []

    def save(self):
        (self.path / "meta/argument_specs.yml").write_text(yaml.dump(self.spec))
        (self.path / "defaults/main.yml").write_text(yaml.dump(self.defaults))

    def problems(self):
        """What --check says about the spec and the defaults, after a --write: so never a stale README."""
        self.save()
        role_docs.check_role(self.path, write=True)
        return role_docs.check_role(self.path)


@pytest.fixture
def role(tmp_path):
    return Role(tmp_path / "roles" / "shop")


def test_a_good_role_has_no_problems(role):
    assert role.problems() == []


def test_table_lists_nested_options(role):
    text = role.readme.read_text()
    assert text.startswith("# shop\n\nbefore\n\n")
    assert text.endswith("\n\nafter\n")
    assert text.split(role_docs.BEGIN)[1].split(role_docs.END)[0].strip().splitlines() == [
        "| variable | type | default | meaning |",
        "|---|---|---|---|",
        "| `shop_home` | path | `{{ shop_root }}/home` | Where it lives. |",
        "| `shop_items` | list of dict | `[]` | What is for sale. Sold in order. |",
        "| `shop_items[].name` | str | **required** | Its name. |",
        "| `shop_items[].price` | dict |  | What it costs. |",
        '| `shop_items[].price.currency` | str | `EUR` | The ISO code, like a\\|b. One of `EUR`, `"no"`. |',
        "| `shop_owner` | str | **required** | Who may edit `shop_home`. |",
        "| `shop_port` | int | `80` | Port to listen on. |",
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [("", '""'), ("0644", '"0644"'), ("yes", '"yes"'), ("a b", "a b"), (True, "true"), ({"a": [1]}, '{"a": [1]}')],
)
def test_default_is_shown_as_yaml(value, shown):
    assert role_docs.literal(value) == shown


def test_stale_readme_is_shown_as_a_diff_and_repaired_by_write(role, capsys):
    roles = str(role.path.parent)
    assert role_docs.main(["--check", roles]) == 0
    role.options["shop_port"]["description"] = "Port of the shop."
    role.save()
    assert role_docs.main(["--check", roles]) == 1
    shown = capsys.readouterr().out
    assert "-| `shop_port` | int | `80` | Port to listen on. |" in shown
    assert "+| `shop_port` | int | `80` | Port of the shop. |" in shown
    assert role_docs.main(["--write", roles]) == 0
    assert role_docs.main(["--check", roles]) == 0


def test_write_twice_changes_nothing(role):
    before = role.readme.read_text()
    assert role_docs.check_role(role.path, write=True) == []
    assert role.readme.read_text() == before


@pytest.mark.parametrize(
    "text",
    ["", "no markers\n", f"{role_docs.BEGIN}\n", f"{role_docs.END}\n{role_docs.BEGIN}\n", README + README],
)
def test_readme_without_its_markers_is_a_problem(role, text):
    role.readme.write_text(text)
    (problem,) = role.problems()
    assert "README.md needs one line" in problem
    assert role.readme.read_text() == text


def test_missing_readme_is_a_problem(role):
    role.readme.unlink()
    assert "README.md needs one line" in role.problems()[0]


def test_missing_spec_is_a_problem(role):
    (role.path / "meta/argument_specs.yml").unlink()
    assert role_docs.check_role(role.path) == ["meta/argument_specs.yml has no entry point main."]


def test_directory_without_roles_fails(tmp_path):
    assert role_docs.main(["--check", str(tmp_path)]) == 1


def test_default_that_is_not_in_the_spec_is_a_problem(role):
    role.defaults["shop_colour"] = "red"
    assert role.problems() == ["shop_colour is in defaults/main.yml and not in the spec."]


@pytest.mark.parametrize(
    ("name", "value"), [("shop_port", 81), ("shop_port", "80"), ("shop_port", 80.0), ("shop_items", [1])]
)
def test_default_with_another_value_than_the_spec_is_a_problem(role, name, value):
    role.defaults[name] = value
    (problem,) = role.problems()
    assert problem.startswith(f"{name} is ")
    assert "in defaults/main.yml and" in problem


def test_jinja_default_is_compared_as_text(role):
    role.options["shop_home"]["default"] = "/srv/home"
    assert role.problems() == ["shop_home is {{ shop_root }}/home in defaults/main.yml and /srv/home in the spec."]


def test_default_missing_in_the_spec_is_a_problem(role):
    del role.options["shop_port"]["default"]
    assert role.problems() == ["shop_port is 80 in defaults/main.yml and null in the spec."]


def test_optional_variable_without_a_default_is_a_problem(role):
    del role.defaults["shop_port"]
    assert role.problems() == ["shop_port is optional and has no default in defaults/main.yml."]


def test_required_variable_with_a_default_is_a_problem(role):
    role.defaults["shop_owner"] = "me"
    assert role.problems() == ["shop_owner is required and has a default: one of the two is wrong."]


def test_variable_without_the_prefix_of_the_role_is_a_problem(role):
    role.options["port"] = role.options.pop("shop_port")
    role.defaults["port"] = role.defaults.pop("shop_port")
    assert role.problems() == ["port does not start with shop_."]


def test_variable_named_like_the_role_passes(role):
    role.options["shop"] = role.options.pop("shop_items")
    role.defaults["shop"] = role.defaults.pop("shop_items")
    assert role.problems() == []


@pytest.mark.parametrize("description", [None, "", ".", "No period", ["One.", "Two"]])
def test_description_that_is_no_sentence_is_a_problem(role, description):
    role.options["shop_items"]["options"]["name"]["description"] = description
    (problem,) = role.problems()
    assert problem.startswith("shop_items[].name needs a description")


def test_nested_option_without_a_type_is_a_problem(role):
    del role.options["shop_items"]["options"]["price"]["options"]["currency"]["type"]
    assert role.problems() == ["shop_items[].price.currency has no type."]


def test_list_without_elements_is_a_problem(role):
    del role.options["shop_items"]["elements"]
    assert role.problems() == ["shop_items is a list and does not say of which elements."]


def test_other_entry_points_are_checked_too(role):
    role.spec["argument_specs"]["remove"] = {"options": {"shop_force": {"type": "bool", "description": "Really."}}}
    assert role.problems() == ["shop_force is optional and has no default in defaults/main.yml."]
