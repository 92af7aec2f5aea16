#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Snapshots over several disks in different IOThreads: all of them of one instant, raw ones
left out, the machine's state on a chosen one, and all or nothing when one of them fails.

usage: disks.py KF-SYSTEM [all]
"""

import json
import os
import struct
import subprocess
import sys
import tempfile

import bare
import peek
import tap
from kfvm import QMPError, VM, guest_dir, linux_args
from rig import check_image, fails, fault, tags, wait_status

BINARY = sys.argv[1]
ALL = sys.argv[2:] == ['all']
DIR = tempfile.TemporaryDirectory(prefix='kfdisks-')
PAYLOAD = os.path.join(DIR.name, 'payload')
bare.write(PAYLOAD, 4)
NODES = ['n0', 'n1', 'n2']
OLD, NEW = 0x11, 0x22


def path(node):
    return os.path.join(DIR.name, node)


def io(node, *commands):
    """qemu-io on a disk that no VM uses."""
    args = [word for c in commands for word in ('-c', c)]
    out = subprocess.run(['qemu-io', '-f', 'qcow2', *args, path(node)], check=True,
                         capture_output=True, text=True).stdout
    assert 'failed' not in out and 'error' not in out, out


def fill(byte):
    for node in NODES:
        io(node, f'write -P {byte} 0 1M', f'write -P {byte} 40M 64k')


def holds(node, byte):
    io(node, f'read -P {byte} 0 1M', f'read -P {byte} 40M 64k')


def images():
    for node in NODES:
        subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', path(node), '64M'], check=True)
    with open(path('raw'), 'wb') as file:
        file.truncate(1 << 24)


def devices(rules=None, raw=True):
    """Three qcow2 disks, two with IOThreads of their own, and a raw one with a third; rules:
    how their files misbehave, by node."""
    args = []
    for i, node in enumerate(NODES):
        file = {'driver': 'file', 'filename': path(node)}
        if rules and node in rules:
            file = {'driver': 'blkdebug', 'inject-error': rules[node], 'image': file}
        args += ['-blockdev', json.dumps({'driver': 'qcow2', 'node-name': node, 'file': file})]
        thread = []
        if i:
            args += ['-object', f'iothread,id=t{i}']
            thread = [f'iothread=t{i}']
        args += ['-device', ','.join(['virtio-blk-device', f'drive={node}', f'id=d{i}',
                                      f'serial={node}', *thread])]
    if not raw:
        return args
    return args + ['-object', 'iothread,id=traw', '-blockdev',
                   f'raw,node-name=raw,file.driver=file,file.filename={path("raw")}',
                   '-device', 'virtio-blk-device,drive=raw,serial=raw,iothread=traw']


def start(rules=None):
    vm = VM(BINARY, ['-m', '32M', '-bios', PAYLOAD, *devices(rules)], monitors=2)
    vm.qmp.timeout = 20
    vm.serial.expect('hh')
    return vm


def unharmed(vm):
    assert vm.qmp.cmd('query-status')['status'] == 'running'
    vm.serial.drain()
    vm.serial.expect('hh', 20)
    assert b'B' not in vm.serial.log, 'the guest found damage'


def on(vmstate='n1'):
    return {'vmstate': vmstate, 'devices': NODES}


def state_sizes():
    """Which images hold a machine state under the tag t."""
    sizes = {}
    for node in NODES:
        info = json.loads(subprocess.run(['qemu-img', 'info', '-U', '--output=json', path(node)],
                                         check=True, capture_output=True).stdout)
        sizes[node] = [s['vm-state-size'] > 0 for s in info.get('snapshots', [])]
    return sizes


def test_state_on_a_chosen_disk():
    images()
    with start() as vm:
        threads = {t['id'] for t in vm.qmp.cmd('query-iothreads')}
        assert {'t1', 't2', 'traw'} <= threads, threads
        for tag, node in (('a', 'n2'), ('b', 'n0'), ('c', 'n1')):
            vm.qmp.run_job('snapshot-save', 'j', tag=tag, **on(node))
            vm.qmp.run_job('snapshot-load', 'j', tag=tag, **on(node))
            unharmed(vm)
        assert state_sizes() == {'n0': [False, True, False], 'n1': [False, False, True],
                                 'n2': [True, False, False]}
        # the state is where it is: another disk has none
        fails(lambda: vm.qmp.run_job('snapshot-load', 'j', tag='a', **on('n0')), 'disk-only')
        fails(lambda: vm.qmp.run_job('snapshot-save', 'j', tag='d', vmstate='n0',
                                     devices=['n1', 'n2']), 'n0')
        fails(lambda: vm.qmp.run_job('snapshot-save', 'j', tag='d', vmstate='n0',
                                     devices=NODES + ['raw']), 'raw')
        vm.qmp.run_job('snapshot-delete', 'j', tag='a', devices=NODES)
        unharmed(vm)
        assert vm.quit() == 0
    for node in NODES:
        check_image(path(node))
        assert tags(path(node)) == ['b', 'c']


def test_device_has_the_size_of_the_snapshot():
    """Whatever the disk has become since; a load that fails leaves it so."""
    payload, image = path('peek'), path('sized')
    peek.write(payload)
    subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', image, '64M'], check=True)
    both = {'vmstate': 'd', 'devices': ['d']}

    def machine(*rules):
        file = {'driver': 'blkdebug', 'inject-error': list(rules),
                'image': {'driver': 'file', 'filename': image}}
        disk = {'driver': 'qcow2', 'node-name': 'd', 'file': file}
        return VM(BINARY, ['-m', '32M', '-bios', payload, '-blockdev', json.dumps(disk),
                           '-device', 'virtio-blk-device,drive=d'])

    def megabytes(vm):
        """By the device's configuration, in slot 7."""
        return peek.Peek(vm.serial.sock).read(0x10008100, 8) >> 11

    with machine() as vm:
        vm.qmp.run_job('snapshot-save', 's', tag='t', **both)
        for size in (128, 32):
            vm.qmp.cmd('block_resize', node_name='d', size=size << 20)
            assert megabytes(vm) == size
            vm.qmp.run_job('snapshot-load', 'l', tag='t', **both)
            assert megabytes(vm) == 64
        vm.qmp.cmd('block_resize', node_name='d', size=128 << 20)
        assert vm.quit() == 0
    with machine(fault('flush', 0, once=False)) as vm:
        fails(lambda: vm.qmp.run_job('snapshot-load', 'l', tag='t', **both), "'d'")
        assert megabytes(vm) == 128
    check_image(image)


def test_disk_that_is_not_part_of_it():
    """One that a driver uses must still have what the driver knows; a larger one has."""
    payload, image, plain = path('peek'), path('part'), path('plain')
    peek.write(payload)
    subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', image, '64M'], check=True)
    both = {'vmstate': 'd', 'devices': ['d']}
    status = 0x10007070  # of slot 6

    def machine(megabytes, read_only='off'):
        with open(plain, 'wb') as file:
            file.truncate(megabytes << 20)
        return VM(BINARY, ['-m', '32M', '-bios', payload, '-blockdev',
                           f'qcow2,node-name=d,file.driver=file,file.filename={image}',
                           '-device', 'virtio-blk-device,drive=d', '-blockdev',
                           f'raw,node-name=p,read-only={read_only},file.driver=file,'
                           f'file.filename={plain}', '-device', 'virtio-blk-device,drive=p'])

    with machine(16) as vm:
        vm.qmp.run_job('snapshot-save', 's', tag='idle', **both)
        peek.Peek(vm.serial.sock).write(status, 7, 4)  # acknowledge, driver, driver ok
        vm.qmp.run_job('snapshot-save', 's', tag='used', **both)
        vm.qmp.run_job('snapshot-load', 'l', tag='used', **both)
        assert vm.quit() == 0
    for args, error in (((8,), 'the disk has 8388608 bytes, in the machine state it has 16777216'),
                        ((16, 'on'), 'the disk is read-only, in the machine state it is not'),
                        ((32,), None)):
        with machine(*args) as vm:
            def load(tag, vm=vm):
                vm.qmp.run_job('snapshot-load', 'l', tag=tag, **both)

            guest = peek.Peek(vm.serial.sock)
            guest.write(0x80100000, 5, 4)
            if error:
                fails(lambda: load('used'), "'virtio-blk' instance 6: ", error)
                assert guest.read(0x80100000, 4) == 5 and guest.read(status, 4) == 0
                assert vm.qmp.cmd('query-status')['status'] == 'running'
                load('idle')
                assert guest.read(0x80100000, 4) == 0
            else:
                load('used')
                assert guest.read(status, 4) == 7
            assert vm.quit() == 0


def test_load_after_shutdown():
    """The machine is the snapshot's again: it wants no reset, cont will do."""
    payload, image = path('peek'), path('off')
    peek.write(payload)
    subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', image, '64M'], check=True)
    with VM(BINARY, ['-m', '32M', '-bios', payload, '-no-shutdown', '-blockdev',
                     f'qcow2,node-name=d,file.driver=file,file.filename={image}',
                     '-device', 'virtio-blk-device,drive=d']) as vm:
        peek.Peek(vm.serial.sock).write(0x80100000, 7, 4)
        vm.qmp.run_job('snapshot-save', 's', tag='t', vmstate='d', devices=['d'])
        vm.serial.sock.sendall(b'W' + struct.pack('<QQ', 0x100000, 0x5555))  # it answers no more
        vm.qmp.wait_event('SHUTDOWN')
        wait_status(vm.qmp, 'shutdown')
        fails(lambda: vm.qmp.cmd('cont'), 'Resetting the Virtual Machine is required')
        vm.qmp.run_job('snapshot-load', 'l', tag='t', vmstate='d', devices=['d'])
        assert vm.qmp.cmd('query-status')['status'] == 'paused'
        vm.qmp.cmd('cont')
        assert peek.Peek(vm.serial.sock).read(0x80100000, 4) == 7
        assert vm.quit() == 0


def test_whole_machine_finds_the_state():
    """HMP's commands and -loadvm look for it on all disks, and say how large it is."""
    images()
    machine = ['-m', '32M', '-bios', PAYLOAD, *devices(raw=False)]
    with VM(BINARY, machine) as vm:
        vm.serial.expect('hh')
        vm.qmp.run_job('snapshot-save', 'j', tag='t', **on('n2'))
        assert vm.quit() == 0
    with VM(BINARY, [*machine, '-loadvm', 't']) as vm:
        vm.serial.expect('hhh')
        assert b'R' not in vm.serial.log
        unharmed(vm)
        [row] = [r.split() for r in vm.qmp.hmp('info snapshots').splitlines() if ' t ' in r]
        assert row[1] == 't' and row[3] == 'MiB' and float(row[2]) > 16, row
        assert vm.qmp.hmp('loadvm t') == ''
        unharmed(vm)
        assert vm.qmp.hmp('savevm t') == ''  # on the first disk again
        assert vm.quit() == 0
    assert state_sizes() == {'n0': [True], 'n1': [False], 'n2': [False]}
    for node in NODES:
        check_image(path(node))


def test_failed_save_leaves_nothing():
    """Whichever disk fails, and at whichever of its requests."""
    images()
    cases = 0
    for node in NODES:
        for rule in ([fault('write', n) for n in (range(12) if ALL else (1, 5))] +
                     [fault('flush', n, 28) for n in (range(4) if ALL else (2,))]):
            with start({node: [rule]}) as vm:
                try:
                    vm.qmp.run_job('snapshot-save', 'j', tag='t', **on())
                except QMPError as error:
                    assert node in error.desc or 'Could not' in error.desc, error.desc
                    cases += 1
                    unharmed(vm)
                    assert vm.qmp.hmp('info snapshots').startswith('There is no snapshot')
                    saved = False
                else:  # it has fewer requests than that
                    saved = True
                assert vm.quit() == 0
            for each in NODES:
                check_image(path(each), leaks=True)
                assert tags(path(each)) == ['t'] * saved, f'{each}, when {node} fails: {rule}'
            if saved:
                images()
    assert cases >= 6, cases


def test_failed_load_changes_no_disk():
    images()
    fill(OLD)
    with start() as vm:
        vm.qmp.run_job('snapshot-save', 'j', tag='t', **on())
        assert vm.quit() == 0
    fill(NEW)
    for node in NODES:
        with start({node: [fault('flush', 0, once=False)]}) as vm:
            fails(lambda: vm.qmp.run_job('snapshot-load', 'j', tag='t', **on()), node)
            unharmed(vm)
            vm.quit()
        for each in NODES:
            check_image(path(each), leaks=True)
            holds(each, NEW)
    with start() as vm:
        vm.qmp.run_job('snapshot-load', 'j', tag='t', **on())
        unharmed(vm)
        assert vm.quit() == 0
    for each in NODES:
        check_image(path(each))
        holds(each, OLD)


def run(vm, command):
    vm.serial.send(command + '; echo "<$?>"\n')
    vm.serial.expect('\n', 60)
    out = vm.serial.expect('<0>\r\n', 60)
    vm.serial.expect('guest#', 60)
    return out


def first_number(node, tag):
    """What the disk's first sector has in the snapshot."""
    out = path('converted')
    subprocess.run(['qemu-img', 'convert', '-l', f'snapshot.name={tag}', '-O', 'raw', path(node),
                    out], check=True)
    with open(out, 'rb') as file:
        return int(file.read(8))


def test_one_instant():
    """A writer goes round the disks, one number after the other: at any instant a disk has
    the same number as the one before it in the round, or the number before."""
    if not os.path.exists(os.path.join(guest_dir(), 'initrd.gz')):
        raise tap.Skip('no guest: make guest')
    images()
    with VM(BINARY, linux_args('256M') + devices()) as vm:
        vm.serial.expect('GUEST READY', 120)
        vm.serial.expect('guest#')
        run(vm, 'for d in /sys/block/vd*; do ln -s /dev/${d##*/} /on.$(cat $d/serial); done')
        run(vm, '(i=1; while [ ! -e /stop ]; do for d in n0 n1 n2; do '
                'printf "%08d" $i | dd of=/on.$d bs=512 conv=sync,fsync 2>/dev/null; done; '
                # what is seen of the first round may be in the guest's cache only
                'i=$((i+1)); done; : > /stopped) & '
                "while ! head -c 8 /on.n2 | grep -q '[2-9]'; do :; done")
        for i in range(4):
            vm.qmp.run_job('snapshot-save', 'j', tag=f't{i}', **on(NODES[i % 3]))
        # the raw disk is not part of it: what it got later stays
        run(vm, 'echo later | dd of=/on.raw bs=512 conv=sync,fsync 2>/dev/null')
        vm.qmp.run_job('snapshot-load', 'j', tag='t1', **on('n1'))
        assert 'later' in run(vm, 'echo 3 > /proc/sys/vm/drop_caches; head -c 5 /on.raw')
        run(vm, ': > /stop; while [ ! -e /stopped ]; do :; done')
        assert vm.quit() == 0
    for i in range(4):
        numbers = [first_number(node, f't{i}') for node in NODES]
        assert numbers == sorted(numbers, reverse=True), (i, numbers)
        assert numbers[0] - numbers[2] <= 1, (i, numbers)
    for node in NODES:
        check_image(path(node))


if __name__ == '__main__':
    tap.run(sys.modules[__name__], needs_guest=False)
