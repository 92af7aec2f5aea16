#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Boots Debian's U-Boot, unmodified: under OpenSBI as kernel, and alone as firmware; each
sees the machine and its disk.

usage: boot-uboot.py KF-SYSTEM
"""

import os
import sys
import tempfile

from kfvm import VM
import tap

BINARY = sys.argv[1]
DIR = os.environ.get('KEYFRAME_UBOOT_DIR', '/usr/lib/u-boot')
SMODE = os.path.join(DIR, 'qemu-riscv64_smode')
MMODE = os.path.join(DIR, 'qemu-riscv64')


def prompt(vm):
    vm.serial.expect('Hit any key to stop autoboot', 120)
    vm.serial.send('\r')
    vm.serial.expect('=> ', 120)


def run(vm, command):
    vm.serial.send(command + '\r')
    return vm.serial.expect('\n=> ', 120)


def check(args):
    """Boots to the prompt, reads a disk back."""
    with tempfile.TemporaryDirectory() as dir_:
        image = os.path.join(dir_, 'disk.img')
        with open(image, 'wb') as f:
            f.write(b'0123456789abcdef' * 32 + bytes(1 << 20))
        with VM(BINARY, args + ['-drive', f'file={image},format=raw']) as vm:
            prompt(vm)
            assert 'riscv-virtio' in run(vm, 'fdt addr $fdtcontroladdr; fdt print / compatible')
            run(vm, 'virtio scan')
            assert 'VirtIO Block Device' in run(vm, 'virtio info')
            run(vm, 'virtio read 0x84000000 0 1')
            assert '30 31 32 33' in run(vm, 'md.b 0x84000000 10')
            # and what it writes is in the file: without FLUSH every write must last
            run(vm, 'mw.b 0x84000000 0x5a 200')
            assert '1 blocks written: OK' in run(vm, 'virtio write 0x84000000 8 1')
            with open(image, 'rb') as f:
                f.seek(8 * 512)
                assert f.read(512) == b'\x5a' * 512
            vm.qmp.cmd('system_reset')
            vm.qmp.wait_event('RESET')
            prompt(vm)
            assert vm.quit() == 0


def test_smode_elf():
    check(['-kernel', os.path.join(SMODE, 'uboot.elf')])


def test_smode_raw():
    check(['-kernel', os.path.join(SMODE, 'u-boot.bin')])


def test_mmode_elf():
    check(['-bios', os.path.join(MMODE, 'uboot.elf')])


def test_mmode_without_bios():
    check(['-bios', 'none', '-kernel', os.path.join(MMODE, 'u-boot.bin')])


def test_poweroff():
    with VM(BINARY, ['-kernel', os.path.join(SMODE, 'uboot.elf')]) as vm:
        prompt(vm)
        vm.serial.send('poweroff\r')
        assert vm.qmp.wait_event('SHUTDOWN')['data'] == {'guest': True,
                                                         'reason': 'guest-shutdown'}
        assert vm.process.wait(30) == 0


if __name__ == '__main__':
    if not os.path.exists(os.path.join(SMODE, 'uboot.elf')):
        print('1..0 # SKIP U-Boot (Debian package u-boot-qemu) is not installed')
        sys.exit(0)
    tap.run(sys.modules[__name__])
