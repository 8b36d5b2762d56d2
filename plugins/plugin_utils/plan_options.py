"""What the action plugin `apps_plan` is told, and by which variables."""

from __future__ import annotations

from typing import Any

# Options that are variables, of the role flask_apps if not of another one; each with its variable. The plugin reads
# them, as a template in a task takes half a millisecond for every host.
VARIABLES: dict[str, tuple[str, dict[str, Any]]] = {
    "apps": ("flask_apps", {"type": "list", "elements": "dict", "required": True, "no_log": True}),
    "tls": ("flask_apps_tls", {"type": "dict", "default": {}, "no_log": True}),
    "headers": ("flask_apps_security_headers", {"type": "dict", "default": {}}),
    "release": ("flask_apps_rollback_release", {"type": "str", "default": ""}),
    "root": ("flask_apps_root", {"type": "str", "required": True}),
    "run": ("__flask_apps_run", {"type": "str", "required": True}),
    "directory": ("__flask_apps_vassals", {"type": "str", "required": True}),
    "nginx": ("__flask_apps_nginx", {"type": "str", "required": True}),
    "tools": ("__flask_apps_tools", {"type": "str", "required": True}),
    "uv_version": ("flask_apps_uv_version", {"type": "str", "required": True}),
    "base": ("playbook_dir", {"type": "str", "required": True}),
    "tested": ("__flask_apps_proven", {"type": "dict", "required": True}),
    "allow_untested": ("flask_apps_allow_unproven_os", {"type": "bool", "default": False}),
    "rotation": ("__flask_apps_rotation", {"type": "list", "elements": "dict", "default": []}),
    "reserve": ("flask_apps_memory_reserve", {"type": "int", "required": True}),
    "uwsgi": ("flask_apps_uwsgi_install", {"type": "str", "required": True}),
    "uwsgi_version": ("flask_apps_uwsgi_version", {"type": "str", "required": True}),
    "backlog": ("flask_apps_listen_backlog", {"type": "int", "required": True}),
    "web_group": ("flask_apps_web_group", {"type": "str", "required": True}),
    "keep": ("flask_apps_keep_releases", {"type": "int", "required": True}),
    "pip_arguments": ("flask_apps_pip_arguments", {"type": "list", "elements": "str", "default": []}),
    "port": ("flask_apps_http_port", {"type": "int", "required": True}),
    "https_port": ("flask_apps_https_port", {"type": "int", "required": True}),
    "trusted_proxies": ("flask_apps_trusted_proxies", {"type": "list", "elements": "str", "default": []}),
    "schedule_host": ("flask_apps_schedule_host", {"type": "str", "default": ""}),
    "writable_paths": ("uwsgi_writable_paths", {"type": "list", "elements": "str", "default": ["/srv/flask_apps"]}),
    "stop_timeout": ("uwsgi_stop_timeout_seconds", {"type": "int"}),
    "balancers": ("flask_apps_balancers", {"type": "list", "elements": "str", "default": []}),
    "rolling": ("__flask_apps_rolling", {"type": "bool", "default": False}),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "purpose": {"type": "str", "choices": ["check", "deploy", "rollback", "look", "checkup"], "default": "deploy"},
    "show": {"type": "bool", "default": False},
    "lock": {"type": "int"},
    "only": {"type": "list", "elements": "str", "default": []},
    "targets": {"type": "dict", "default": {}},
    "staged": {"type": "dict", "default": {}},
    **{option: kind for option, (_variable, kind) in VARIABLES.items()},
}
PROXY_PORTS = ("flask_apps_proxy_protocol_port", "flask_apps_proxy_protocol_https_port")
