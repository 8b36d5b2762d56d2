#!/usr/bin/env bash
# build-image.sh container RELEASE             -> podman image localhost/emperor-host:RELEASE
# build-image.sh vm        RELEASE OUTPUT-DIR  -> OUTPUT-DIR/{disk.ext4,vmlinuz,initrd}
#
# A bare Debian host with systemd and Python, made from Debian's own packages by mmdebstrap: no container registry.
# Does nothing when the image is there and was built by this very script with the same files.
set -euo pipefail
# Package ownership needs root; the output directory is the caller's.
[ "$1" = container ] || mkdir -p "$3"
[ "$(id -u)" = 0 ] || exec sudo --preserve-env=DEBIAN_MIRROR,http_proxy,https_proxy,no_proxy "$0" "$@"
kind=$1 release=$2 target=${3:-}
PATH=$PATH:/usr/sbin:/sbin

# The hosts trust what this machine trusts: a company's own certificate authority, for instance.
shopt -s nullglob
certificates=(/usr/local/share/ca-certificates/*.crt)
usercustomize=$(dirname "$(readlink -f "$0")")/usercustomize.py
recipe=$(cat "$0" "$usercustomize" "${certificates[@]}" | sha256sum | cut -c1-16)

# Two builds at once: the second waits, then finds the work done.
exec 9> "/run/lock/emperor-host-$kind-$release.lock"
flock 9
case $kind in
  container)
    image=localhost/emperor-host:$release
    built=$(podman image inspect --format '{{index .Labels "emperor-host"}}' "$image" 2>/dev/null) || built=""
    [ "$built" != "$recipe" ] || exit 0 ;;
  vm)
    [ "$(cat "$target/recipe" 2>/dev/null)" != "$recipe" ] || exit 0 ;;
esac
echo "==> building the Debian $release $kind image (takes a minute or two, once)"

# The machine's own mirror if it runs Debian (a site mirror, a snapshot...), else mmdebstrap's default.
mirror=${DEBIAN_MIRROR:-}
if [ -z "$mirror" ] && grep -qs '^ID=debian' /etc/os-release; then
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null | grep -m1 '/debian/\?$') || true
fi

packages=systemd,systemd-sysv,dbus,libnss-systemd,libpam-systemd,python3,ca-certificates,iproute2,procps,sudo
options=(--variant=minbase --keyring=/usr/share/keyrings/debian-archive-keyring.gpg --aptopt='Acquire::Languages "none"'
         --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*')
if [ ${#certificates[@]} -gt 0 ]; then
  options+=(--customize-hook="copy-in ${certificates[*]} /usr/local/share/ca-certificates"
            --customize-hook='chroot "$1" update-ca-certificates')
fi
sources=("$release" - ${mirror:+"$mirror"})

case $kind in
  container)
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    options+=(--customize-hook="copy-in $usercustomize /usr/lib/python3/dist-packages")
    mmdebstrap "${options[@]}" --include="$packages" "${sources[@]}" > "$work/root.tar"
    podman import --quiet --change "LABEL emperor-host=$recipe" --change 'CMD ["/lib/systemd/systemd"]' \
      --change 'STOPSIGNAL SIGRTMIN+3' "$work/root.tar" "$image" > /dev/null
    # Older ones go, unless a container still runs from them.
    podman image prune --force --filter label=emperor-host > /dev/null
    ;;
  vm)
    cd "$target"
    rm -rf boot disk.ext4 recipe
    truncate -s 6G disk.ext4
    # Hooks run where ownership is right. mke2fs must not see the /proc and /sys that mmdebstrap mounted: a plain
    # (non-recursive) bind mount hides them.
    mmdebstrap "${options[@]}" --format=null --include="$packages,linux-image-cloud-amd64,openssh-server,udev" \
      --customize-hook='echo molecule > "$1/etc/hostname"; printf "127.0.0.1 localhost molecule\n" > "$1/etc/hosts"' \
      --customize-hook='echo "nameserver 10.0.2.3" > "$1/etc/resolv.conf"' \
      --customize-hook='printf "[Match]\nName=en* eth*\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\n" > "$1/etc/systemd/network/20-dhcp.network"' \
      --customize-hook='printf "/dev/vda / ext4 rw,noatime 0 1\n" > "$1/etc/fstab"' \
      --customize-hook='chroot "$1" systemctl enable --quiet systemd-networkd ssh' \
      --customize-hook='chroot "$1" systemctl mask --quiet systemd-networkd-wait-online apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer' \
      --customize-hook='install -d -m700 "$1/root/.ssh"; printf "PermitRootLogin prohibit-password\nPasswordAuthentication no\nUseDNS no\n" > "$1/etc/ssh/sshd_config.d/10-molecule.conf"' \
      --customize-hook="copy-out /boot $PWD" \
      --customize-hook='rm -rf "$1"/var/cache/apt/archives/*.deb "$1"/var/lib/apt/lists/* "$1"/tmp/*' \
      --customize-hook='unshare -m sh -ec '"'"'mount --bind "$1" /mnt; exec mke2fs -q -F -t ext4 -L root -d /mnt "$2"'"'"' sh "$1" '"$PWD/disk.ext4" \
      "${sources[@]}" > /dev/null
    cp boot/vmlinuz-* vmlinuz
    cp boot/initrd.img-* initrd
    rm -rf boot
    chmod a+r disk.ext4 vmlinuz initrd
    echo "$recipe" > recipe
    ;;
esac
