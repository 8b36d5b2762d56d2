#!/usr/bin/env bash
# start-container.sh NAME RELEASE[-prepared] [PODMAN-RUN-OPTION...]: a running Debian host in a container, systemd and all.
# Builds the image when missing (a prepared one must be there: prepare-image.sh), keeps a container that exists, returns when systemd has started everything.
# Prints what it did; nothing when there was nothing to do.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
[ "$(id -u)" = 0 ] || exec sudo --preserve-env=DEBIAN_MIRROR,http_proxy,https_proxy,no_proxy "$0" "$@"
name=$1 release=$2
shift 2

if ! podman container exists "$name"; then
  [[ $release = *-prepared ]] || "$here/build-image.sh" container "$release"
  # SYS_ADMIN: without it systemd silently drops PrivateTmp=, ProtectSystem= and the like.
  options=(--detach --name "$name" --pull=never --systemd=always --cap-add=SYS_ADMIN)
  mkdir -p /run/emperor-hosts
  options+=(--pidfile="/run/emperor-hosts/$name.pid")   # for .venv/bin/docker, see .config/bootstrap
  # podman asks for high limits; a process without CAP_SYS_RESOURCE may not go above its own.
  if ! prlimit --nofile=1048576:1048576 true 2>/dev/null; then
    limit=$(ulimit -Hn)
    options+=(--ulimit="nofile=$limit:$limit" --ulimit="nproc=$limit:$limit")
  fi
  runtime=() init=()
  if [ ! -e /sys/fs/cgroup/cgroup.controllers ]; then
    # cgroup v1 (cgroup v2 needs none of this). crun refuses, so runc. podman bind-mounts the machine's own systemd
    # hierarchy into the container, where two systemds would remove each other's groups: drop that mount, the private
    # cgroup namespace has one of its own beneath it. Writable controllers make MemoryMax=, TasksMax= and CPUQuota= real.
    # Never bind-mount the machine's /sys/fs/cgroup: systemd would reshape it.
    runtime=(--runtime=runc)
    options+=(--cgroupns=private)
    init=(sh -c 'umount /sys/fs/cgroup/systemd/release_agent /sys/fs/cgroup/systemd
      for c in memory cpu cpuacct cpu,cpuacct pids systemd; do
        test ! -d /sys/fs/cgroup/$c || mount -o remount,bind,rw /sys/fs/cgroup/$c
      done
      exec /lib/systemd/systemd')
  fi
  podman "${runtime[@]}" run "${options[@]}" "$@" "localhost/emperor-host:$release" "${init[@]}" >/dev/null
  # The kernel counts a user's processes over all containers, so apps on several hosts would share one limit: accounts get
  # their numbers from a range that depends on the address.
  address=$(podman container inspect --format '{{.NetworkSettings.IPAddress}}' "$name")
  first=$((100 + 100 * (${address##*.} % 9)))
  printf 'SYS_UID_MIN %d\nSYS_UID_MAX %d\n' $first $((first + 99)) | podman exec -i "$name" tee -a /etc/login.defs >/dev/null
  echo "created $name"
elif [ "$(podman container inspect --format '{{.State.Running}}' "$name")" != true ]; then
  podman start "$name" >/dev/null
  echo "started $name"
fi

# A bridge takes the lowest address among its ports, and so another one whenever a host comes or goes. Until the hosts have
# learned it, their answers are lost, for up to two minutes. Its own address stays.
bridge=/sys/class/net/podman0
if [ "$(cat $bridge/addr_assign_type 2>/dev/null)" = 1 ]; then
  ip link set podman0 address "$(cat $bridge/address)"
fi

state=unreachable
for _ in $(seq 60); do
  state=$(podman exec "$name" systemctl is-system-running 2>/dev/null) || true
  case $state in
    running) exit 0 ;;
    degraded) break ;;
  esac
  sleep 1
done
echo "$name did not start: systemd is ${state:-unreachable}" >&2
podman exec "$name" systemctl --failed --no-pager >&2 || podman logs --tail 20 "$name" >&2
exit 1
