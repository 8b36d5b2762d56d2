"""Secrets of a build: the steps get them, and nothing else has them, neither a message nor the release."""

import json
import os
import stat

import pytest
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.building import building
from ansible_collections.flaskops.emperor.plugins.plugin_utils.settings.values import Refused

GIT = {"host": "git.test", "user": "ci", "password": "only-for-git"}
SECRET = {"environment": {"TOKEN": "only-for-the-build", "KIND": "production"}, "credentials": [GIT]}


def test_build_gets_its_secrets_and_leaves_none(built, home, uv, deeds):
    with open(uv + ".does", "w") as file:
        file.write('stat -c %a "$HOME/.netrc" > "$VIRTUAL_ENV/mode"; wc -c < "$HOME/.netrc" > "$VIRTUAL_ENV/size"\n')
        file.write('test "$TOKEN" = only-for-the-build && touch "$VIRTUAL_ENV/knew"; unset TOKEN\n')
        file.write('sed -i s/^TOKEN.*// "$VIRTUAL_ENV/env"\n')
        file.write('stat -c "%a %n" "$HOME/../environment" "$HOME/../src" "$HOME" > "$VIRTUAL_ENV/modes"\n')
    answer = built("aaa", packages=["a==1"], build=["sh -c 'test \"$KIND\" = production'"], **SECRET)
    assert not answer["failed"], answer
    venv = home / "releases/aaa/venv"
    assert (venv / "knew").exists()
    assert ((venv / "mode").read_text(), (venv / "size").read_text()) == ("400\n", "48\n")
    assert [line.split()[0] for line in (venv / "modes").read_text().splitlines()] == ["400", "700", "700"]
    assert "only-for" not in json.dumps(answer) + str(deeds)
    for folder, _folders, files in os.walk(home):
        for name in files:
            path = os.path.join(folder, name)
            if stat.S_ISREG(os.lstat(path).st_mode):
                with open(path, "rb") as file:
                    assert b"only-for" not in file.read(), path


def test_message_of_a_failed_build_hides_its_secrets(built):
    command = "sh -c 'echo $TOKEN $KIND; cut -d \" \" -f 6 $HOME/.netrc; exit 1'"
    answer = built("aaa", build=[command], **SECRET)
    assert answer["msg"].endswith("******** production\n********")
    assert "only-for" not in json.dumps(answer)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"build_environment": {"TMPDIR": "/x"}},
            "a.build_environment.TMPDIR is set by the role itself",
        ),
        ({"build_environment": {"A-B": "x"}}, "a.build_environment.A-B is no name for an environment variable"),
        (
            {"build_credentials": [{**GIT, "host": "git.test:8443"}]},
            "a.build_credentials[].host is 'git.test:8443', but must be a name of a host, like git.example.com",
        ),
        ({"build_credentials": [GIT, {**GIT, "user": "x"}]}, "a.build_credentials[git.test] is there twice"),
        (
            {"build_credentials": [{**GIT, "password": "not one word"}]},
            "a.build_credentials[git.test].password must be text without blanks, quotes, '#' and backslashes: use",
        ),
        ({"build_credentials": [{**GIT, "user": 5}]}, "a.build_credentials[git.test].user must be text"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_settings_that_no_build_can_use_are_refused_without_showing_a_secret(settings, sentence):
    with pytest.raises(Refused) as refused:
        building(settings, "a")
    assert str(refused.value).startswith(sentence)
    assert "not one word" not in str(refused.value)
