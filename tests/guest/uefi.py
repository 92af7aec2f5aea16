#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Boots Debian's UEFI firmware (qemu-efi-riscv64) from flash, and follows a variable of its
store through resets and snapshots: the store in a raw file that travels in the machine
state, in one that is left out, and in qcow2.

usage: uefi.py KF-SYSTEM [all]
"""

import os
import shutil
import subprocess
import sys
import tempfile

import tap
from kfvm import VM, guest_dir

BINARY = sys.argv[1]
ALL = sys.argv[2:] == ['all']
FIRMWARE = os.path.join(guest_dir(), 'uefi')
CODE, VARS = (os.path.join(FIRMWARE, f'RISCV_VIRT_{n}.fd') for n in ('CODE', 'VARS'))
GUID = '6b66746e-7473-4554-8000-000000000001'
DISK = {'vmstate': 'disk', 'devices': ['disk']}


class Machine:
    """A directory with a variable store and a disk; VMs over them."""

    def __init__(self, fmt='raw'):
        self.dir = tempfile.TemporaryDirectory(prefix='kfuefi-')
        self.fmt = fmt
        self.store = os.path.join(self.dir.name, 'vars')
        self.disk = os.path.join(self.dir.name, 'disk')
        if fmt == 'raw':
            shutil.copyfile(VARS, self.store)
        else:
            subprocess.run(['qemu-img', 'create', '-q', '-f', fmt, '-b', VARS, '-F', 'raw',
                            self.store], check=True)
        subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', self.disk, '64M'], check=True)

    def start(self, *args):
        return VM(BINARY, [
            '-m', '256M',
            '-drive', f'if=pflash,format=raw,unit=0,file={CODE},readonly=on',
            '-drive', f'if=pflash,format={self.fmt},unit=1,file={self.store},node-name=vars',
            '-blockdev', f'qcow2,node-name=disk,file.driver=file,file.filename={self.disk}',
            *args])


def shell(vm):
    """To the prompt of the UEFI shell."""
    vm.serial.expect('EDK2 firmware', 120)
    vm.serial.expect('Press ESCAPE within', 60)
    vm.serial.send('\r')
    vm.serial.expect('any other key to continue', 60)
    vm.serial.send('\x1b')
    vm.serial.expect('Shell> ', 60)


def command(vm, line):
    vm.serial.send(line + '\r')
    return vm.serial.expect('Shell> ', 60)


def set_variable(vm, value):
    command(vm, f'setvar Kf -guid {GUID} -nv -bs ={value:02x}')
    assert variable(vm) == value


def variable(vm):
    """Its value, None if there is no such variable."""
    out = command(vm, f'setvar Kf -guid {GUID}')
    if '0001 Bytes' not in out:
        return None
    return int(out.split('0001 Bytes')[1].split()[0], 16)


def reset(vm):
    """The firmware starts anew: it knows only what is in flash."""
    vm.qmp.cmd('system_reset')
    vm.qmp.wait_event('RESET')
    shell(vm)


def load_between(vm, **snapshot):
    """1 is saved, 2 is set, the snapshot loaded; what the firmware finds at its next start."""
    set_variable(vm, 1)
    vm.qmp.run_job('snapshot-save', 'j', tag='t', **snapshot)
    set_variable(vm, 2)
    vm.qmp.run_job('snapshot-load', 'j', tag='t', **snapshot)
    assert variable(vm) == 1, 'RAM is not that of the snapshot'
    reset(vm)
    return variable(vm)


def test_store_in_the_state():
    """Firmware, disk and RAM of one instant, although the store is raw."""
    machine = Machine()
    with machine.start('-M', 'virt,pflash-in-state=on') as vm:
        shell(vm)
        assert load_between(vm, **DISK) == 1
        assert vm.quit() == 0


def test_variable_lasts():
    machine = Machine()
    with machine.start() as vm:
        shell(vm)
        assert variable(vm) is None
        set_variable(vm, 5)
        assert vm.quit() == 0
    with machine.start() as vm:
        shell(vm)
        assert variable(vm) == 5
        set_variable(vm, 6)
        vm.kill()
    with machine.start() as vm:
        shell(vm)
        assert variable(vm) == 6, 'lost by a kill'


def test_store_left_out():
    """What the firmware wrote last is what it finds."""
    machine = Machine()
    with machine.start() as vm:
        shell(vm)
        assert load_between(vm, **DISK) == 2
        assert 'pflash1' in vm.qmp.hmp('savevm h') and vm.qmp.hmp('loadvm h') == ''


def test_store_in_qcow2():
    machine = Machine('qcow2')
    with machine.start() as vm:
        shell(vm)
        assert load_between(vm, vmstate='disk', devices=['disk', 'vars']) == 1
        set_variable(vm, 3)
        assert vm.qmp.hmp('savevm h') == ''
        set_variable(vm, 4)
        assert vm.qmp.hmp('loadvm h') == ''
        assert variable(vm) == 3
        reset(vm)
        assert variable(vm) == 3
        assert vm.quit() == 0
    for image in (machine.store, machine.disk):
        subprocess.run(['qemu-img', 'check', '-q', image], check=True)


if __name__ == '__main__':
    if not os.path.exists(os.path.join(FIRMWARE, 'complete')):
        print('1..0 # SKIP no firmware: make guest')
        sys.exit(0)
    if not ALL:
        del test_variable_lasts, test_store_left_out, test_store_in_qcow2
    tap.run(sys.modules[__name__], needs_guest=False)
