#!/usr/bin/python
"""Ansible module: ask an app the health question as a visitor would, through the web server."""

from __future__ import annotations

import http.client
import re
import time
from concurrent.futures import ThreadPoolExecutor

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: app_health
short_description: Ask an app the health question as a visitor would
version_added: 1.0.0
description:
  - Asks through the web server of the host until the app answers well.
  - While two instances share a listening socket, either may answer. On an idle host with one processor that is nearly
    always the one that has waited longer. So when the wrong one answered, several ask at the same time.
options:
  port:
    description: Port of the web server.
    type: int
    default: 80
  host:
    description: Host header of the request.
    type: str
    required: true
  path:
    description: Path to ask for.
    type: str
    default: /
  status:
    description: Status the app has to answer.
    type: int
    default: 200
  generation:
    description: What the instance has to answer in the header X-Vassal; anything when empty.
    type: str
    default: ""
  patience:
    description: Seconds an answer may take.
    type: int
    default: 60
  at_once:
    description: Questions at a time when the wrong instance answered. No more than keep the app busy for a moment.
    type: int
    default: 16
  seconds:
    description: Seconds after which no other question is asked. A reload of nginx is over a moment after its command.
    type: int
    default: 20
attributes:
  check_mode:
    description: Only asks.
    support: full
author:
  - flaskops maintainers (@flaskops)
"""

EXAMPLES = r"""
- name: See that visitors reach the shop
  flaskops.emperor.app_health:
    host: shop.example.com
    path: /healthz
"""

RETURN = r"""
asked:
  description: How many questions it took.
  type: int
  returned: success
"""

PAUSE = 0.05  # seconds between two rounds


def ask(port: int, host: str, path: str, status: int, generation: str, patience: float) -> str:
    """Ask once. Returns what is wrong with the answer, empty when nothing is."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=patience)
    try:
        connection.request("GET", path, headers={"Host": host, "Connection": "close"})
        answer = connection.getresponse()
        body = answer.read(300)
    except (OSError, http.client.HTTPException) as error:
        return f"get no answer ({error or type(error).__name__})"
    finally:
        connection.close()
    if answer.status != status:
        begin = re.sub(r"\s+", " ", body.decode("utf-8", "replace")).strip()
        return f"get the status {answer.status} instead of {status}: {begin}"
    if generation and answer.headers.get("X-Vassal", "") != generation:
        return "are answered by another instance than the one that was started"
    return ""


def main() -> None:
    """Ask until the answer is good."""
    module = AnsibleModule(
        argument_spec={
            "port": {"type": "int", "default": 80},
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
    deadline, asked, several = time.monotonic() + seconds, 0, 1
    with ThreadPoolExecutor(at_once) as pool:
        while True:
            found = list(pool.map(lambda _number: ask(**module.params), range(several)))
            asked += several
            if "" in found:
                module.exit_json(changed=False, asked=asked)
            if time.monotonic() > deadline:
                where = f"{module.params['host']}{module.params['path']}"
                module.fail_json(msg=f"Visitors of {where} {found[0]} (asked for {seconds} s).")
            several = at_once
            time.sleep(PAUSE)


if __name__ == "__main__":
    main()
