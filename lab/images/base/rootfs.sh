#!/bin/sh
# Writes a small Debian 13 root file system to standard output as a tar archive.
#
# Usage: rootfs.sh CA_DIRECTORY > rootfs.tar
# CA_DIRECTORY holds extra certificate authorities, one PEM each (*.crt); it may be empty.
set -eu
export EXTRA_AUTHORITIES="$1"

# A build that is cut short is made again, so packages need not be synced to disk file by file; nor need it keep them.
# Documentation and translations are never read in a service image. The exclusions stay in force for packages that
# recipes add later. No mirror is named: mmdebstrap knows Debian's own.
exec mmdebstrap --quiet --variant=minbase \
  --include=ca-certificates \
  --aptopt='Apt::Install-Recommends "false"' \
  --aptopt='Acquire::Languages "none"' \
  --aptopt='Dir::Cache::pkgcache ""' \
  --aptopt='Dir::Cache::srcpkgcache ""' \
  --dpkgopt='force-unsafe-io' \
  --dpkgopt='path-exclude=/usr/share/doc/*' \
  --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/info/*' \
  --dpkgopt='path-exclude=/usr/share/lintian/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' \
  --customize-hook='if ls "$EXTRA_AUTHORITIES"/*.crt >/dev/null 2>&1; then
      cp "$EXTRA_AUTHORITIES"/*.crt "$1/usr/local/share/ca-certificates/" && chroot "$1" update-ca-certificates >&2
    fi' \
  --customize-hook='echo "APT::Keep-Downloaded-Packages \"false\";" > "$1/etc/apt/apt.conf.d/90small"' \
  --customize-hook='echo "debconf debconf/frontend select Noninteractive" | chroot "$1" debconf-set-selections' \
  --customize-hook='rm -rf "$1"/var/cache/debconf/*-old "$1"/var/log/*.log "$1"/var/log/apt "$1"/etc/machine-id
    : > "$1/etc/machine-id"' \
  trixie -
