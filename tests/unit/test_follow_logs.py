"""The action plugin `follow_logs`: it prints what comes, also after a host was away."""

from unittest import mock

import pytest
from ansible.errors import AnsibleConnectionFailure
from ansible_collections.flaskops.emperor.plugins.action import follow_logs

END = {"failed": True, "msg": "no journal"}  # ends it


def entry(number):
    return [f"2026-11-29T12:00:0{number}.000Z", "shop", "request", f"GET /{number}"]


@pytest.fixture
def follow(monkeypatch):
    """Run the plugin with answers of the host; return its result, its display, and from where it was to go on."""

    def run(*answers):
        monkeypatch.setattr(follow_logs, "PAUSE", 0)
        display, positions, left = mock.Mock(), [], list(answers)

        def ask(_plugin, arguments, _variables):
            positions.append(arguments["position"])
            answer = left.pop(0) if left else END
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(follow_logs.ActionModule, "_ask", ask)
        task = mock.Mock(args={"apps": ["shop"], "position": {"at": 0}, "seconds": 600}, async_val=0, no_log=False)
        plugin = follow_logs.ActionModule(task, mock.Mock(), mock.Mock(), mock.Mock(), mock.Mock(), mock.Mock())
        monkeypatch.setattr(plugin, "_display", display)
        return plugin.run(task_vars={"inventory_hostname": "web1"}), display, positions

    return run


def test_host_that_was_away_is_named_once_and_read_from_where_it_was(follow):
    away = AnsibleConnectionFailure("No route to host")
    _result, display, positions = follow(
        {"entries": [entry(1)], "position": {"at": 1}}, away, away, {"entries": [entry(2)], "position": {"at": 2}}
    )
    assert [call.args[0] for call in display.display.call_args_list] == [
        "  2026-11-29T12:00:01.000Z web1 shop request GET /1",
        "  2026-11-29T12:00:02.000Z web1 shop request GET /2",
    ]
    display.warning.assert_called_once()
    assert display.warning.call_args.args[0].startswith("web1 cannot be reached, its lines come when it is back: ")
    assert [place["at"] for place in positions] == [0, 1, 1, 1, 2]


def test_failure_on_the_host_ends_it(follow):
    result, _display, positions = follow(END)
    assert result == END
    assert len(positions) == 1
