#!/bin/sh
# In place of an emulator of a domain: knows only `-machine help`, as QEMU 7.2 answers it.
[ "$*" = "-machine help" ] || exit 1
echo "Supported machines are:"
echo "none                 empty machine"
echo "virt-6.2             QEMU 6.2 ARM Virtual Machine"
echo "virt                 QEMU 7.2 ARM Virtual Machine (alias of virt-7.2)"
echo "virt-7.2             QEMU 7.2 ARM Virtual Machine"
