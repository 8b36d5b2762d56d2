#!/usr/bin/env python3
"""Keep a role's README, argument spec and defaults saying the same thing.

    role_docs.py --check    fail, with a diff, when a README's table is stale
    role_docs.py --write    write the tables

meta/argument_specs.yml is the source. The table of its entry point `main` stands in the role's README
between the two markers below. Both modes also compare the spec with defaults/main.yml, values included:
Ansible itself ignores the defaults of a spec, so nothing else would notice when the two drift apart.
"""

from __future__ import annotations

import argparse
import difflib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

BEGIN = "<!-- variables:begin -->"
END = "<!-- variables:end -->"
Options = dict[str, dict[str, Any]]


def load(path: Path) -> dict[str, Any]:
    """Return a YAML mapping; a missing or empty file is an empty one."""
    data = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None
    return data or {}


def walk(options: Options, prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every option to the leaf, named like `flask_apps[].python.requirements`."""
    for name, option in options.items():
        yield prefix + name, option
        inner = "[]." if option.get("type") == "list" else "."
        yield from walk(option.get("options") or {}, prefix + name + inner)


def sentences(text: Any) -> str:
    """Return a description (a string or a list of them) as one line."""
    lines = text if isinstance(text, list) else [text or ""]
    return " ".join(" ".join(str(line) for line in lines).split())


# --- the table ---------------------------------------------------------------------------------------------------


def code(text: str) -> str:
    """Return text as Markdown code that survives in a table cell."""
    fence = "``" if "`" in text else "`"
    pad = " " if "`" in text else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def literal(value: Any) -> str:
    """Return a value the way one would write it in YAML, on one line."""
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    try:
        plain = isinstance(yaml.safe_load(value), str)
    except yaml.YAMLError:  # a Jinja expression, for one
        plain = True
    return value if plain and "\n" not in value else json.dumps(value, ensure_ascii=False)


def type_cell(option: dict[str, Any]) -> str:
    kind = str(option.get("type", ""))
    return f"{kind} of {option['elements']}" if "elements" in option else kind


def default_cell(option: dict[str, Any]) -> str:
    if option.get("required"):
        return "**required**"
    return "" if option.get("default") is None else code(literal(option["default"]))


def meaning_cell(option: dict[str, Any]) -> str:
    # Ansible's own markup, O(name), V(value), C(code), L(text,url), becomes Markdown.
    text = re.sub(r"\bL\(([^,)]+),\s*([^)]+)\)", r"[\1](\2)", sentences(option.get("description")))
    text = re.sub(r"\b[CEFMOPV]\(([^)]+)\)", r"`\1`", text)
    text = re.sub(r"\b[BI]\(([^)]+)\)", r"**\1**", re.sub(r"\bU\(([^)]+)\)", r"<\1>", text))
    choices = ", ".join(code(literal(choice)) for choice in option.get("choices") or [])
    return f"{text} One of {choices}." if choices else text


def table(options: Options) -> str:
    """Return the Markdown table of an entry point's options."""
    lines = ["| variable | type | default | meaning |", "|---|---|---|---|"]
    for name, option in walk(options):
        cells = [code(name), type_cell(option), default_cell(option), meaning_cell(option)]
        lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def with_table(readme: str, rendered: str) -> str | None:
    """Return the README with the table between its markers, or None when they are not there."""
    if readme.count(BEGIN) != 1 or readme.count(END) != 1 or readme.index(BEGIN) > readme.index(END):
        return None
    head, rest = readme.split(BEGIN)
    return f"{head}{BEGIN}\n\n{rendered}\n{END}{rest.split(END)[1]}"


# --- the checks: each returns sentences, none when all is well -----------------------------------------------------


def check_text(options: Options) -> Iterator[str]:
    """Every option, nested ones too, has a type and a description."""
    for name, option in walk(options):
        if "type" not in option:
            yield f"{name} has no type."
        if option.get("type") == "list" and "elements" not in option:
            yield f"{name} is a list and does not say of which elements."
        if not re.search(r"\w.*\.$", sentences(option.get("description"))):
            yield f"{name} needs a description of at least one sentence, ending with a period."


def check_names(role: str, names: list[str]) -> Iterator[str]:
    """Every variable carries the role's name."""
    for name in names:
        if name != role and not name.startswith(f"{role}_"):
            yield f"{name} does not start with {role}_."


def same(left: Any, right: Any) -> bool:
    """Compare like YAML does: 1, 1.0, true and "1" are four values, the order of keys is none."""
    return json.dumps(left, sort_keys=True, default=str) == json.dumps(right, sort_keys=True, default=str)


def check_defaults(options: Options, defaults: dict[str, Any]) -> Iterator[str]:
    """Every option is either required or has, in defaults/main.yml, the default that the spec documents."""
    for name, option in options.items():
        if option.get("required"):
            if name in defaults or "default" in option:
                yield f"{name} is required and has a default: one of the two is wrong."
        elif name not in defaults:
            yield f"{name} is optional and has no default in defaults/main.yml."
        elif not same(defaults[name], option.get("default")):
            there, here = literal(defaults[name]), literal(option.get("default"))
            yield f"{name} is {there} in defaults/main.yml and {here} in the spec."


def check_spec(role: str, spec: dict[str, Any], defaults: dict[str, Any]) -> list[str]:
    """Return what is wrong with a role's spec and defaults, each problem once."""
    entries: list[Options] = [entry.get("options") or {} for entry in spec.values()]
    names = list(dict.fromkeys(name for options in entries for name in options))
    public = [name for name in defaults if not name.startswith("_")]
    problems = [f"{name} is in defaults/main.yml and not in the spec." for name in public if name not in names]
    problems += check_names(role, list(dict.fromkeys([*names, *public])))
    for options in entries:  # entry points may be YAML aliases of main: dict.fromkeys drops what is said twice
        problems += [*check_text(options), *check_defaults(options, defaults)]
    return list(dict.fromkeys(problems))


def check_readme(path: Path, rendered: str, write: bool) -> str | None:
    """Bring the README up to date, or return what is wrong with it."""
    old = path.read_text(encoding="utf-8") if path.is_file() else ""
    new = with_table(old, rendered)
    if new is None:
        return f"{path.name} needs one line {BEGIN} and, below it, one line {END}."
    if new == old:
        return None
    if write:
        path.write_text(new, encoding="utf-8")
        return None
    diff = difflib.unified_diff(old.splitlines(), new.splitlines(), path.name, "what the spec says", lineterm="", n=1)
    return f"{path.name} is stale, run this script with --write:\n" + "\n".join(f"    {line}" for line in diff)


def check_role(role_dir: Path, write: bool = False) -> list[str]:
    """Return all problems of one role."""
    spec = load(role_dir / "meta" / "argument_specs.yml").get("argument_specs", {})
    if "main" not in spec:
        return ["meta/argument_specs.yml has no entry point main."]
    problems = check_spec(role_dir.name, spec, load(role_dir / "defaults" / "main.yml"))
    stale = check_readme(role_dir / "README.md", table(spec["main"].get("options") or {}), write)
    return problems + ([stale] if stale else [])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--check", action="store_true", help="fail when a README is stale")
    mode.add_argument("--write", action="store_true", help="write the tables")
    parser.add_argument("roles", nargs="?", type=Path, default=Path(__file__).parents[2] / "roles")
    options = parser.parse_args(arguments)

    roles = sorted(path for path in options.roles.glob("*") if path.is_dir())
    problems = [f"roles/{role.name}: {problem}" for role in roles for problem in check_role(role, options.write)]
    if not roles:
        problems = [f"no roles in {options.roles}"]
    print("\n".join(problems) or f"role_docs: {len(roles)} roles agree with their spec")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
