#!/bin/sh
# What a cloud writes to a server's disk at its first boot. Called by disk.sh, with the directory of the new system.
set -eu
root=$1

echo "$NAME" > "$root/etc/hostname"
echo 'LANG=C.UTF-8' > "$root/etc/default/locale"
cat > "$root/etc/systemd/network/10-cloud.network" <<TEXT
[Match]
Type=ether
[Network]
Address=$IPV4/24
Address=$IPV6/64
Gateway=${IPV4%.*}.1
Gateway=${IPV6%::*}::1
DNS=$RESOLVER
IPv6AcceptRA=no
TEXT
install -d -m 0700 "$root/root/.ssh"
install -m 0600 "$STATE/authorized_keys" "$root/root/.ssh/authorized_keys"
rm -f "$root"/etc/ssh/ssh_host_*
install -m 0600 "$STATE/ssh_host_ed25519_key" "$root/etc/ssh/ssh_host_ed25519_key"
install -m 0644 "$STATE/ssh_host_ed25519_key.pub" "$root/etc/ssh/ssh_host_ed25519_key.pub"
install -m 0644 "$STATE/ca.crt" "$root/usr/local/share/ca-certificates/openmates-lab.crt"
chroot "$root" update-ca-certificates
chroot "$root" systemctl enable systemd-networkd systemd-resolved ssh
ln -sf ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
chroot "$root" passwd --quiet --lock root
# What mmdebstrap set for its own speed is not a server's.
rm -f "$root/etc/dpkg/dpkg.cfg.d/99mmdebstrap" "$root/etc/apt/apt.conf.d/99mmdebstrap"
rm -rf "$root/var/cache/apt/archives"/*.deb "$root/var/cache/debconf"/*-old
: > "$root/etc/machine-id"
