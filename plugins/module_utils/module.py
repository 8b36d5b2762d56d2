"""What every module of this collection is."""

from __future__ import annotations

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule


class Module(AnsibleModule):
    """An AnsibleModule whose new files have the modes that it asks for.

    Hardened hosts give root an umask of 027 or 077 (`UMASK` in /etc/login.defs, or sudo's own): then the users that
    build and run an app could not enter the directories that are made for them.
    """

    def __init__(self, **options: Any) -> None:
        os.umask(0o022)
        super().__init__(**options)
