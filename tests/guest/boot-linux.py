#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Boots Debian's riscv64 kernel to a shell that sees its disks, resets and powers it off,
and lets sessions stop and continue it all the while.

usage: boot-linux.py KF-SYSTEM
"""

import os
import subprocess
import sys
import tempfile

from kfvm import Timeout, VM, guest_dir, linux_args
import tap

BINARY = sys.argv[1]


def shell(vm):
    vm.serial.expect('GUEST READY', 240)
    vm.serial.expect('guest#', 60)


def run(vm, command, timeout=120):
    """Runs a command in the guest; returns what it printed."""
    vm.serial.send(command + '; echo "<$?>"\n')
    vm.serial.expect('\n', timeout)
    out = vm.serial.expect('<0>\r\n', timeout)
    vm.serial.expect('guest#', timeout)
    return out


def test_disks():
    with tempfile.TemporaryDirectory() as dir_:
        qcow2, raw = os.path.join(dir_, 'a.qcow2'), os.path.join(dir_, 'b.img')
        subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', qcow2, '64M'], check=True)
        with open(raw, 'wb') as f:
            f.truncate(32 << 20)
        args = ['-object', 'iothread,id=t1',
                '-blockdev', f'qcow2,node-name=n0,file.driver=file,file.filename={qcow2}',
                '-device', 'virtio-blk-device,drive=n0,serial=first,iothread=t1',
                '-drive', f'file={raw},format=raw,id=d1,if=none,read-only=on',
                '-device', 'virtio-blk-device,drive=d1,serial=second']
        with VM(BINARY, linux_args('256M') + args) as vm:
            shell(vm)
            assert 'first' in run(vm, 'cat /sys/block/vda/serial')
            assert 'second' in run(vm, 'cat /sys/block/vdb/serial')
            assert '131072' in run(vm, 'cat /sys/block/vda/size')
            assert '1' in run(vm, 'cat /sys/block/vdb/ro')
            run(vm, 'dd if=/dev/urandom of=/r bs=64k count=256')
            run(vm, 'dd if=/r of=/dev/vda bs=64k conv=fsync && echo 3 > /proc/sys/vm/drop_caches')
            run(vm, 'dd if=/dev/vda bs=64k count=256 | cmp - /r')
            sum_ = run(vm, 'md5sum /r').split()[0]
            run(vm, 'blkdiscard /dev/vdb && false || true')
            assert vm.quit() == 0
        out = subprocess.run(['qemu-img', 'check', qcow2], check=True, capture_output=True)
        assert b'No errors' in out.stdout
        subprocess.run(['qemu-img', 'convert', '-O', 'raw', qcow2, raw], check=True)
        with open(raw, 'rb') as f:
            data = f.read(16 << 20)
        out = subprocess.run(['md5sum'], input=data, capture_output=True, check=True)
        assert out.stdout.split()[0].decode() == sum_


def test_reset_and_poweroff():
    with VM(BINARY, linux_args('256M')) as vm:
        shell(vm)
        vm.serial.send('reboot -f\n')
        assert vm.qmp.wait_event('RESET', 60)['data'] == {'guest': True, 'reason': 'guest-reset'}
        shell(vm)
        vm.qmp.cmd('system_reset')
        shell(vm)
        vm.serial.send('poweroff -f\n')
        vm.qmp.wait_event('SHUTDOWN', 60)
        assert vm.process.wait(30) == 0


def test_no_reboot_no_shutdown():
    with VM(BINARY, linux_args('256M') + ['-no-reboot', '-no-shutdown']) as vm:
        shell(vm)
        vm.serial.send('reboot -f\n')
        assert vm.qmp.wait_event('SHUTDOWN', 60)['data'] == {'guest': True,
                                                             'reason': 'guest-reset'}
        vm.qmp.wait_event('STOP', 60)
        assert vm.qmp.cmd('query-status')['status'] == 'shutdown'
        assert vm.quit() == 0


def test_stop_and_cont():
    with VM(BINARY, linux_args('256M'), monitors=2) as vm:
        other = vm.session(1)
        for _ in range(100):  # while it boots
            vm.qmp.cmd('stop')
            assert other.cmd('query-status')['status'] == 'paused'
            vm.qmp.cmd('cont')
            assert other.cmd('query-status')['running']
        shell(vm)
        run(vm, 'sleep 1')
        # the guest's clock stands while it is stopped
        before = float(run(vm, 'cat /proc/uptime').split()[0])
        vm.qmp.cmd('stop')
        vm.serial.send('cat /proc/uptime; echo "<$?>"\n')
        try:
            vm.serial.expect('<0>', 2)
            raise AssertionError('a stopped guest answered')
        except Timeout:
            pass
        vm.qmp.cmd('cont')
        vm.serial.expect('\n')
        after = float(vm.serial.expect('<0>').split()[0])
        assert after - before < 2, (before, after)
        assert vm.quit() == 0


if __name__ == '__main__':
    if not os.path.exists(os.path.join(guest_dir(), 'Image')):
        print('1..0 # SKIP no guest: make guest')
        sys.exit(0)
    tap.run(sys.modules[__name__])
