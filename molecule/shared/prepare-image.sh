#!/usr/bin/env bash
# prepare-image.sh RELEASE -> podman image localhost/emperor-host:RELEASE-prepared
#
# A host of build-image.sh on which the roles nginx and uwsgi have run, and uv is there: what every scenario would install
# again, for 20 s of processor time on each host. Scenarios that are about bare hosts do not use it (`prepared` in
# molecule.yml); the others' converge finds what there is and changes what differs.
# Does nothing when the image is there and was made from the same files.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
cd "$here/../.."
release=$1
image=localhost/emperor-host:$release-prepared
name=emperor-prepared-$release-$$

# Two at once: the second waits, then finds the work done.
exec 9> "/run/lock/emperor-host-prepared-$release-$(id -u).lock"
flock 9
sudo=$([ "$(id -u)" = 0 ] || echo sudo)
$sudo "$here/build-image.sh" container "$release"
recipe=$({ podman image inspect --format '{{.Id}}' "localhost/emperor-host:$release"
           find roles/nginx roles/uwsgi roles/flask_apps/defaults molecule/shared/prepare-image.* -type f -print0 | sort -z | xargs -0 cat; } | sha256sum | cut -c1-16)
made=$(podman image inspect --format '{{index .Labels "emperor-prepared"}}' "$image" 2>/dev/null) || made=""
[ "$made" != "$recipe" ] || exit 0

echo "==> preparing the Debian $release image (takes a minute, once)"
trap 'podman rm --force --ignore --time 0 --volumes "$name" > /dev/null' EXIT
"$here/start-container.sh" "$name" "$release"
env --unset=ANSIBLE_CONFIG ANSIBLE_ROLES_PATH=roles ANSIBLE_COLLECTIONS_PATH=.config/collections \
  ansible-playbook --inventory "$name," --connection community.docker.docker molecule/shared/prepare-image.yml
# What belongs to one host only: the server of usercustomize.py, the journal, the name of the machine.
podman exec "$name" sh -c 'rm -rf /var/cache/ansible-python /var/log/journal/*; : > /etc/machine-id'
podman stop --time 20 "$name" > /dev/null
podman commit --quiet --change "LABEL emperor-prepared=$recipe" "$name" "$image" > /dev/null
podman image prune --force --filter label=emperor-prepared > /dev/null
