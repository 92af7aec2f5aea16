#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Migrates a running Linux from process to process over a socket, with its disk shared,
while it changes 20 MiB of memory per second, and tells how long it stood still: from the
source's event STOP to the destination's RESUME, on the host's clock.

usage: migrate-linux.py KF-SYSTEM [ROUNDS]
"""

import os
import subprocess
import sys
import tempfile

from kfvm import VM, disk_args, linux_args
import tap

BINARY = sys.argv[1]
ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 3


def switch(vm, *names):
    vm.qmp.cmd('migrate-set-capabilities',
               capabilities=[{'capability': name, 'state': True} for name in names])


def stamp(event):
    return event['timestamp']['seconds'] * 1000000 + event['timestamp']['microseconds']


def verify(vm):
    vm.serial.drain()
    vm.serial.send('v')
    found = vm.serial.expect(' next=', 60)
    assert 'VERIFY OK' in found, found[-400:]
    assert b'BAD' not in vm.serial.log, 'the guest found damage'
    vm.serial.expect('hhh')


def start(image, *extra):
    return VM(BINARY, linux_args('256M') + disk_args(image) + list(extra))


def move(source, image, directory, answer):
    """One migration; returns the destination and how long the guest stood still, in us."""
    where = 'unix:' + os.path.join(directory, 'mig')
    target = start(image, '-incoming', 'defer')
    target.qmp.cmd('migrate-incoming', 30, uri=where)
    switch(source, 'events', *(['return-path'] if answer else []))
    source.qmp.events.clear()
    source.qmp.cmd('migrate', uri=where)
    source.qmp.wait_event('MIGRATION', 120, lambda d: d['status'] in ('completed', 'failed'))
    info = source.qmp.cmd('query-migrate')
    assert info['status'] == 'completed', info
    stopped = source.qmp.wait_event('STOP')
    resumed = target.qmp.wait_event('RESUME')
    assert source.qmp.cmd('query-status')['status'] == 'postmigrate'
    source.quit()
    return target, stamp(resumed) - stamp(stopped), info


def test_rounds(_):
    with tempfile.TemporaryDirectory(prefix='kfmig-') as directory:
        image = os.path.join(directory, 'disk.qcow2')
        subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', image, '256M'], check=True)
        vm = start(image)
        try:
            vm.serial.expect('GUEST READY', 120)
            vm.serial.expect('guest#')
            vm.serial.send('workload fill=64 rate=20 beat=1000 disk=/dev/vda\n')
            vm.serial.expect('WORKLOAD READY', 60)
            vm.serial.expect('hhh')
            times = []
            for i in range(ROUNDS):
                vm, stood, info = move(vm, image, directory, i % 2 == 1)
                times.append(stood)
                print(f'# round {i}: stood still {stood} us, source says {info["downtime"]} ms, '
                      f'{info["ram"]["dirty-sync-count"]} passes, '
                      f'{info["ram"]["transferred"] >> 20} MiB in {info["total-time"]} ms', flush=True)
                verify(vm)
            times.sort()
            print(f'# standstill: median {times[len(times) // 2]} us, worst {times[-1]} us')
            vm.quit()
        finally:
            if vm.process.poll() is None:
                vm.kill()
        result = subprocess.run(['qemu-img', 'check', image], capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr


if __name__ == '__main__':
    tap.run(sys.modules[__name__], None)
