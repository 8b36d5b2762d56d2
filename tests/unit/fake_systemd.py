"""A systemd that keeps in memory which units of side processes run."""

from ansible_collections.flaskops.emperor.plugins.module_utils.sides import units


class Systemd:
    """Units that run, start at boot, or end as soon as they start."""

    def __init__(self, root):
        self.root, self.running, self.calls = root, {}, []
        self.broken = ""  # a part of the names of units that do not start

    def __call__(self, *arguments):
        self.calls.append(arguments)
        verb, names = arguments[0], [one for one in arguments[1:] if not one.startswith("-")]
        for name in names:
            kind = name.rpartition(".")[2]
            if verb == "enable":
                links = self.root / f"{units.WANTS[kind]}.wants"
                links.mkdir(exist_ok=True)
                (links / name).touch()
            if verb in ("start", "restart"):
                self.running[name] = "failed" if self.broken and self.broken in name else "active"
            if verb in ("stop", "reset-failed"):
                self.running.pop(name, None)

    def show(self, names, _properties):
        chosen = {name for name in self.running if any(name == one or one.endswith("*") for one in names)}
        return {name: {"Id": name, "ActiveState": self.running[name], "NRestarts": "0"} for name in chosen}
