#!/usr/bin/python
"""Ansible module: send the health check of an app through nginx, as a client would."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flaskops.emperor.plugins.module_utils import web

DOCUMENTATION = r"""
module: app_health
short_description: Send the health check of an app as a client would
version_added: 1.0.0
description:
  - Sends the health check through nginx of the host until the app passes it.
  - While two instances share a listening socket, either may answer. On an idle host with one processor that is nearly
    always the one that has waited longer. So when the wrong one answered, several checks are sent at the same time.
options:
  port:
    description: Port of nginx.
    type: int
    default: 80
  tls:
    description: Whether to send it by HTTPS. The certificate is not judged.
    type: bool
    default: false
  host:
    description: Host header of the request.
    type: str
    required: true
  path:
    description: Path of the health check.
    type: str
    default: /
  status:
    description: Status that the app must answer.
    type: int
    default: 200
  generation:
    description: What the instance must answer in the header X-Vassal; anything when empty.
    type: str
    default: ""
  patience:
    description: Seconds an answer may take.
    type: int
    default: 60
  at_once:
    description: Checks at a time after the wrong instance answered. No more than keep the app busy for a moment.
    type: int
    default: 16
  seconds:
    description: Seconds after which no other check is sent. A reload of nginx is over a moment after its command.
    type: int
    default: 20
attributes:
  check_mode:
    description: Only reads.
    support: full
author:
  - flaskops maintainers (@flaskops)
"""

EXAMPLES = r"""
- name: See that clients reach the shop
  flaskops.emperor.app_health:
    host: shop.example.com
    path: /healthz
"""

RETURN = r"""
checks:
  description: How many checks it took.
  type: int
  returned: success
"""

PAUSE = 0.05  # seconds between two rounds


def main() -> None:
    """Check until the answer is right."""
    module = AnsibleModule(
        argument_spec={
            "port": {"type": "int", "default": 80},
            "tls": {"type": "bool", "default": False},
            "host": {"type": "str", "required": True},
            "path": {"type": "str", "default": "/"},
            "status": {"type": "int", "default": 200},
            "generation": {"type": "str", "default": ""},
            "patience": {"type": "int", "default": 60},
            "at_once": {"type": "int", "default": 16},
            "seconds": {"type": "int", "default": 20},
        },
        supports_check_mode=True,
    )
    seconds, at_once = module.params.pop("seconds"), module.params.pop("at_once")
    deadline, sent, several = time.monotonic() + seconds, 0, 1
    with ThreadPoolExecutor(at_once) as pool:
        while True:
            found = list(pool.map(lambda _number: web.check(**module.params), range(several)))
            sent += several
            if "" in found:
                module.exit_json(changed=False, checks=sent)
            if time.monotonic() > deadline:
                where = f"{module.params['host']}{module.params['path']}"
                module.fail_json(msg=f"Clients of {where} {found[0]} (checked for {seconds} s).")
            several = at_once
            time.sleep(PAUSE)


if __name__ == "__main__":
    main()
