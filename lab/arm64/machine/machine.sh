#!/bin/sh
# Becomes the emulator of an ARM machine that has this container's place in the lab's network: its addresses and names.
# Killing the container cuts the machine's power; its console is the container's log.
#
# Needs the capability NET_ADMIN, the device /dev/net/tun, and the machine's disk, kernel and initrd in /disk.
#
# Usage: machine.sh RESOLVER_ADDRESS MEMORY_MB DISK DISK_OF_DOCKER
set -eu
resolver=$1
memory=$2
disk=$3
docker=$4
if [ ! -e /.dockerenv ]; then
  echo 'machine: only for a container' >&2
  exit 1
fi

# The container keeps one address, for a resolver that leads to Docker's, which containers of the network alone can ask.
gateway=$(ip -4 route show default | cut -d' ' -f3)
ip link add machine type bridge
ip tuntap add tap0 mode tap
ip -4 address flush dev eth0
ip -6 address flush dev eth0 scope global
for port in eth0 tap0; do ip link set "$port" master machine up; done
ip link set machine up
ip address add "$resolver/24" dev machine
ip route replace default via "$gateway"
python3 /usr/local/lib/machine/resolver.py "$resolver" &

# Neoverse N1 is Hetzner's ARM processor (Ampere Altra): a program that needs a newer one fails here as it fails there.
exec qemu-system-aarch64 -machine virt -cpu neoverse-n1 -accel tcg,thread=multi -smp 2 -m "$memory" -nodefaults -nographic \
  -kernel /disk/vmlinuz -initrd /disk/initrd.img -append 'root=/dev/vda console=ttyAMA0' \
  -drive "file=/disk/$disk,if=none,id=disk,discard=unmap" -device virtio-blk-pci,drive=disk \
  -drive "file=/disk/$docker,if=none,id=docker,discard=unmap" -device virtio-blk-pci,drive=docker \
  -netdev tap,id=net,ifname=tap0,script=no,downscript=no -device virtio-net-pci,netdev=net,mac=02:00:c6:33:64:0f,romfile= \
  -device virtio-rng-pci -serial stdio -monitor unix:/run/monitor,server,nowait
