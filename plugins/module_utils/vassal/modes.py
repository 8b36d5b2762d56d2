"""The reload modes: how an app goes over from one release to the next. One table, for the controller and the host.

What each mode costs is measured in docs/reload_modes.md.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mode:
    """What distinguishes a reload mode.

    :ivar way: how the running instance is replaced: ``beside`` it (a second instance), ``in_place`` (it reloads itself)
        or as a ``chain`` (worker by worker). Names of functions in `switch`.
    :ivar trial: whether a release is started once beside the running instance before it takes over. If not, no second
        instance ever runs: what cannot go over in place ends first (``after``).
    :ivar slot_socket: whether clients come to the socket that systemd holds for the slot, and not to that of the app.
    :ivar through_link: whether workers find the release through a link, so that the vassal file names no release.
    :ivar lazy_apps: whether every worker must load the app itself.
    :ivar least_processes: how many workers it takes, so that one serves while another starts.
    :ivar cheaper: whether workers may come and go with the load (``workers.minimum``).
    :ivar distro: whether it is tested with the distribution's uWSGI.
    """

    way: str
    trial: bool = True
    slot_socket: bool = False
    through_link: bool = False
    lazy_apps: bool = False
    least_processes: int = 1
    cheaper: bool = True
    distro: bool = True


MODES = {
    "zerg": Mode("beside"),
    "chain": Mode("chain", through_link=True, lazy_apps=True, least_processes=2, cheaper=False, distro=False),
    "graceful": Mode("in_place"),
    "upstream": Mode("beside", slot_socket=True),
    "exclusive": Mode("in_place", trial=False),
}
