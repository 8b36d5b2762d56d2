"""What a build may know and nobody else: the passwords of an index and of a git server, and a secret variable."""

from pathlib import Path

SECRETS = {"index": "only-for-the-index", "git": "only-for-git", "build": "only-for-the-build"}
# The git server has a package's repository as plain files, and a certificate that the host trusts.
START = """
apt-get install --quiet=2 --no-install-recommends git >/dev/null 2>&1
(umask 077; printf 'reader:{index}\\nreader:{git}\\n' > /root/credentials)
mkdir -p /root/git/work/src/emperor_hidden && cd /root/git
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=git.test \\
  -addext subjectAltName=DNS:git.test -keyout git.key -out git.crt 2>/dev/null
cp git.crt /usr/local/share/ca-certificates/
update-ca-certificates >/dev/null 2>&1
echo 127.0.0.1 git.test >> /etc/hosts
cd work
echo 'TEXT = "from the private repository"' > src/emperor_hidden/__init__.py
printf '[project]\\nname = "emperor-hidden"\\nversion = "1.0"\\n' > pyproject.toml
printf '[build-system]\\nrequires = ["uv_build>=0.9,<1"]\\nbuild-backend = "uv_build"\\n' >> pyproject.toml
git init --quiet --initial-branch=main . && git add .
git -c user.name=x -c user.email=x@git.test commit --quiet --message=x
git clone --quiet --bare . ../hidden.git && git -C ../hidden.git update-server-info
systemd-run --quiet --collect --unit=emperor-test-index /usr/bin/python3 -c "$0" /root/credentials /root/seen /root/git
for port in 8900 8901; do
  timeout 60 sh -c "until python3 -c 'import socket; socket.create_connection((\\"127.0.0.1\\", $port))' 2>/dev/null; do
    sleep 0.1
  done"
done
"""
# What any user can read.
READ = """
setpriv --reuid=nobody --regid=nogroup --clear-groups grep --recursive --files-with-matches --no-messages \\
  --devices=skip only-for- /etc /home /opt /root /run /srv /tmp /usr/local /var
"""
# What the build must not leave behind, and what the app must not get.
LEFT = """
grep --recursive --files-with-matches --devices=skip -e {git} -e {build} /etc /opt /run /srv /tmp /var
grep --text --files-with-matches --no-messages -e only-for- /proc/[0-9]*/environ
"""
ASK = "python -c 'import os; assert len(os.environ[\"BUILD_TOKEN\"]) == 18'"


def test_secrets_of_a_build_bring_private_packages_and_nobody_learns_them(apps, client, variant, playbook, fleet):
    host, program = fleet[1], Path(__file__).with_name("index.py").read_text()
    host.check_output("sh -ec %s %s", START.format(**SECRETS), program)
    source = Path(apps["notes"]["source"]["path"], "notes.py").read_text()
    told = '"quiet": [__import__(name).TEXT for name in ("emperor_quiet", "emperor_hidden")], "colour"'
    code = source.replace('"colour"', told)
    assert code != source
    wanted = "emperor-quiet\nemperor-hidden @ git+https://git.test:8901/hidden.git@main\n"
    changed = variant(apps["notes"], {"notes.py": code, "requirements.txt": wanted}) | {
        "build": [ASK],
        "build_environment": {"BUILD_TOKEN": SECRETS["build"]},
        "build_credentials": [{"host": "git.test", "user": "reader", "password": SECRETS["git"]}],
    }
    index = f"--extra-index-url=http://reader:{SECRETS['index']}@127.0.0.1:8900/simple"
    arguments = ("deploy", "-vvv", "--diff", "-e", "app=notes", "--limit=webservers[1]")
    run = playbook(*arguments, variables={"flask_apps": [changed], "flask_apps_pip_arguments": [index]})
    assert not run.failed, run.error
    assert client("notes", 1).json("/")["quiet"] == ["from the private index", "from the private repository"]
    assert "only-for-" not in run.output
    seen = host.check_output("grep -v python3.-c /root/seen")
    assert "uv pip install" in seen
    assert "git-remote-https" in seen
    assert "only-for-" not in seen
    assert host.run("journalctl --no-pager --quiet | grep only-for-").stdout == ""
    assert host.run(READ).stdout == ""
    assert host.run(LEFT.format(**SECRETS)).stdout == ""
    host.check_output("systemctl stop emperor-test-index")
