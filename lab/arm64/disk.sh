#!/bin/sh
# Makes the disk of an ARM machine: Debian 13 as a cloud's image has it, with its own kernel. It is cached: the machine
# writes to a layer above it. Takes minutes, because an emulator runs the packages' scripts.
#
# Usage: disk.sh DIRECTORY NAME IPV4 IPV6 RESOLVER
# DIRECTORY has authorized_keys, ssh_host_ed25519_key(.pub) and ca.crt; it gets disk.raw, vmlinuz and initrd.img.
set -eu
export STATE="$1" NAME="$2" IPV4="$3" IPV6="$4" RESOLVER="$5"
here="$(cd "$(dirname "$0")" && pwd)"
export CUSTOMIZE="$here/customize.sh" FSTAB="$here/fstab"
root="$STATE/root"
rm -rf "$root" "$STATE/disk.raw"

# The initrd checks the file systems that /etc/fstab names when it is made.
mmdebstrap --skip=check/qemu --architectures=arm64 --variant=minbase --format=directory \
  --include=apparmor,ca-certificates,curl,dbus,e2fsprogs,initramfs-tools,iproute2,iputils-ping,kmod,libpam-systemd \
  --include=linux-image-arm64,locales,netbase,openssh-server,procps,python3,python3-apt,sudo,systemd,systemd-resolved \
  --include=systemd-sysv,systemd-timesyncd,udev,unattended-upgrades,zstd \
  --aptopt='Apt::Install-Recommends "false"' --dpkgopt='force-unsafe-io' \
  --setup-hook='install -d "$1/etc"; install -m 0644 "$FSTAB" "$1/etc/fstab"' \
  --customize-hook='sh "$CUSTOMIZE" "$1"' \
  trixie "$root"

cp "$root"/boot/vmlinuz-* "$STATE/vmlinuz"
cp "$root"/boot/initrd.img-* "$STATE/initrd.img"
mke2fs -q -t ext4 -L root -d "$root" "$STATE/disk.part" 40G
rm -rf "$root"
mv "$STATE/disk.part" "$STATE/disk.raw"
