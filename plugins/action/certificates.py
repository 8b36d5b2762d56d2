"""Action plugin: read the certificates that the user provides, then let the module bring all of them to the host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.flaskops.emperor.plugins.module_utils.secrets import censor
from ansible_collections.flaskops.emperor.plugins.plugin_utils import certificate_plan
from ansible_collections.flaskops.emperor.plugins.plugin_utils.host_action import HostAction
from ansible_collections.flaskops.emperor.plugins.plugin_utils.provided import provided
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.apps import complete_apps
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.tls import complete_acme
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused

MODULE = "flaskops.emperor.certificates"

OPTIONS: dict[str, dict[str, Any]] = {
    "apps": {"type": "list", "elements": "dict", "default": [], "no_log": True},
    "tls": {"type": "dict", "default": {}, "no_log": True},
    "acme": {"type": "dict", "default": {}, "no_log": True},
    "only": {"type": "list", "elements": "str", "default": []},
    "base": {"type": "str", "default": "."},
    "directory": {"type": "str", "required": True},
    "forget": {"type": "dict", "default": {}},
    "purpose": {"type": "str", "choices": ["get", "reissue", "revoke"], "default": "get"},
}


def check_reissue(names: Sequence[str], apps: Sequence[Mapping[str, Any]]) -> None:
    """See that a CA signs the certificates of these apps.

    :raises Refused: with a sentence.
    """
    signed = [app["name"] for app in apps if certificate_plan.certified(app) and app["tls"]["mode"] == "acme"]
    if others := [name for name in names if name not in signed]:
        cure = "name apps with tls.mode acme; of a certificate that you provide, ask whoever signed it"
        raise Refused(f"app is {others[0]}, which has no certificate of the CA: {cure}.")


class ActionModule(HostAction):
    """Ansible's entry point."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Complete the settings of the apps in `only`, then run the module once."""
        super().run(tmp, task_vars)
        _result, options = self.validate_argument_spec(OPTIONS)
        read, base = self._loader.get_text_file_contents, options["base"]
        try:
            all_apps = complete_apps(options["apps"], tls=options["tls"])
            apps = [app for app in all_apps if app["name"] in options["only"]]
            acme = certificate_plan.with_dns(complete_acme(options["acme"]), all_apps)
            if options["purpose"] != "get":
                check_reissue(options["only"], apps)
            contents = {app["name"]: provided(app, base, read) for app in apps if app["tls"]["mode"] == "provided"}
        except Refused as refusal:
            return {"failed": True, "changed": False, "msg": str(refusal)}
        arguments = {
            "apps": [
                {
                    "name": app["name"],
                    "mode": app["tls"]["mode"],
                    "names": certificate_plan.names_of(app),
                    "challenge": certificate_plan.challenge_of(app, acme),
                }
                for app in apps
            ],
            "contents": contents,
            "forget": options["forget"],
            "purpose": options["purpose"],
            "acme": {key: acme[key] for key in ("server", "email", "key_type", "eab_kid")},
            "eab_hmac_key": acme["eab_hmac_key"],
            "credentials": acme["dns"].get("content", ""),
            "environment": acme["dns"].get("environment"),
            "webroot": certificate_plan.WEBROOT,
            "ca": certificate_plan.CA if acme["ca"] else None,
            "directory": options["directory"],
        }
        answer: dict[str, Any] = self._execute_module(MODULE, module_args=arguments, task_vars=task_vars)
        # certbot says what a plugin has against its credentials.
        hidden = acme["dns"].get("secrets", {})
        if "told" in answer:
            answer["told"] = [censor(line, hidden) for line in answer["told"]]
        if "msg" in answer:
            answer["msg"] = censor(str(answer["msg"]), hidden)
        return answer
