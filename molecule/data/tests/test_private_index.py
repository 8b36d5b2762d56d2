"""An index that wants a password: its packages are installed, and no other user of the host learns the password."""

from pathlib import Path

SECRET = "only-for-the-index"
START = """
(umask 077; printf 'reader:{secret}' > /root/credentials)
systemd-run --quiet --collect --unit=emperor-test-index /usr/bin/python3 -c "$0" /root/credentials /root/seen
for _try in $(seq 100); do
  python3 -c 'import socket; socket.create_connection(("127.0.0.1", 8900))' 2>/dev/null && exit
  sleep 0.1
done
exit 1
"""
# What any user can read.
READ = """
setpriv --reuid=nobody --regid=nogroup --clear-groups grep --recursive --files-with-matches --no-messages \\
  --devices=skip {secret} /etc /home /opt /root /run /srv /tmp /usr/local /var
"""


def test_package_of_a_private_index_is_installed_and_nobody_learns_the_password(apps, client, variant, playbook, fleet):
    host, program = fleet[1], Path(__file__).with_name("index.py").read_text()
    host.check_output("sh -c %s %s", START.format(secret=SECRET), program)
    source = Path(apps["notes"]["source"]["path"], "notes.py").read_text()
    code = source.replace('"colour"', '"quiet": __import__("emperor_quiet").TEXT, "colour"')
    assert code != source
    changed = variant(apps["notes"], {"notes.py": code, "requirements.txt": "emperor-quiet\n"})
    index = f"--extra-index-url=http://reader:{SECRET}@127.0.0.1:8900/simple"
    arguments = ("deploy", "-vvv", "--diff", "-e", "app=notes", "--limit=webservers[1]")
    run = playbook(*arguments, variables={"flask_apps": [changed], "flask_apps_pip_arguments": [index]})
    assert not run.failed, run.error
    assert client("notes", 1).json("/")["quiet"] == "from the private index"
    assert SECRET not in run.output
    seen = host.check_output("grep -v python3.-c /root/seen")
    assert "uv pip install" in seen
    assert SECRET not in seen
    assert host.run(f"journalctl --no-pager --quiet | grep {SECRET}").stdout == ""
    assert host.run(READ.format(secret=SECRET)).stdout == ""
    host.check_output("systemctl stop emperor-test-index")
