"""Refuse what the argument specification of a role rules out; Ansible itself names neither the app nor the cure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ansible.module_utils.parsing.convert_bool import BOOLEANS
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import check_names, fail, like

MANY = 10  # names in a sentence that would be longer than of use
CLOSER = 0.9  # how much alike a name that may be right and the one that was meant are
WORDS = {
    "str": "text", "path": "text", "int": "a whole number", "float": "a number", "bool": "true or false",
    "list": "a list", "dict": "a dict",
}  # fmt: skip
CURES = {
    "list": "write one item per line, each behind a dash",
    "dict": "write one `name: value` per line",
    "str": "put it in quotes",
    "bool": "write one of them without quotes",
}


def kind(value: Any) -> str:
    """What a value is, for a person."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return f"the number {value}"
    if isinstance(value, Mapping):
        return "a dict"
    return "a list" if isinstance(value, (list, tuple)) else "text"


def fits(value: Any, wanted: str) -> bool:
    """Whether a value has the type of a specification, or is one that Ansible makes of it."""
    if wanted in ("str", "path"):
        return not isinstance(value, (Mapping, list, tuple))
    if wanted == "bool":
        return isinstance(value, bool) or str(value).lower() in BOOLEANS
    if wanted in ("int", "float"):
        try:
            number = float(value)
        except (TypeError, ValueError):
            return False
        return not isinstance(value, bool) and (wanted == "float" or number == int(number))
    if wanted == "list":
        return isinstance(value, (list, tuple))
    return wanted != "dict" or isinstance(value, Mapping)


def chosen(value: Any, choices: Collection[Any]) -> bool:
    """Whether a value is one of the choices. YAML takes `off` for false."""
    said = {True: ("on", "yes"), False: ("off", "no")}.get(value, ()) if isinstance(value, bool) else (value,)
    return bool(set(said) & set(choices))


def check_value(option: Mapping[str, Any], value: Any, where: str) -> None:
    """Check one setting.

    :param option: how a specification describes it.
    :raises Refused: with one sentence that names the variable and the cure.
    """
    wanted, options = option.get("type", "str"), option.get("options", {})
    if not fits(value, wanted):
        having = f" with {', '.join(options)}" if wanted == "dict" and 0 < len(options) <= MANY else ""
        cure = f": {CURES[wanted]}" if wanted in CURES else ""
        fail(where, f"is {kind(value)}, but must be {WORDS[wanted]}{having}{cure}.")
    choices = option.get("choices")
    if choices and not chosen(value, choices):
        fail(where, f"is {value!r}, but must be one of {', '.join(map(str, choices))}.")
    if wanted == "dict" and options:
        check_options(options, value, where)
    if wanted == "list" and "elements" in option:
        for index, item in enumerate(value):
            name = item.get("name") if isinstance(item, Mapping) and "name" in options else None
            here = f"{where}[{index if name is None else name}]"
            check_value({"type": option["elements"], "options": options}, item, here)


def check_options(options: Mapping[str, Any], values: Mapping[str, Any], where: str) -> None:
    """Check a dict of settings.

    :param options: how a specification describes each that there is.
    :raises Refused: like `check_value`.
    """
    check_names(values, options, where)
    for name, option in options.items():
        value = values.get(name)
        if value is not None:
            check_value(option, value, f"{where}.{name}")
        elif option.get("required"):
            fail(where, f"has no {name}: add it.")


def check_variables(options: Mapping[str, Any], values: Mapping[str, Any], names: Collection[str]) -> None:
    """Check the variables of a role.

    :param options: the specification of its entry point.
    :param values: of these variables.
    :param names: of all variables there are.
    :raises Refused: like `check_value`.
    """
    for name, option in options.items():
        value = values.get(name)
        if value is not None:
            check_value(option, value, name)
        elif option.get("required"):
            meant = like(name, set(names) - set(options))
            fail(name, f"is not set: {f'{meant} is, did you mean that?' if meant else 'add it to the inventory.'}")


def mistaken(options: Mapping[str, Any], names: Collection[str], role: str) -> list[str]:
    """Variables that are like those of a role and mean nothing to it, as sentences for a warning."""
    strange = sorted(name for name in names if name.startswith(f"{role}_") and name not in options)
    meant = {name: like(name, options, CLOSER) for name in strange}
    return [f"The role {role} has no variable {name}: did you mean {one}?" for name, one in meant.items() if one]
