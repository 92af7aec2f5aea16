#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The VM generation ID: what the guest sees of it, when it changes, and that Debian's kernel
makes its random pool anew in every clone.

usage: generation.py KF-SYSTEM
"""

import os
import shutil
import subprocess
import sys
import tempfile
import uuid

import peek
import tap
from kfvm import VM, disk_args, guest_dir, linux_args
from rig import fails, wait_status

BINARY = sys.argv[1]
DIR = tempfile.TemporaryDirectory(prefix='kfgen-')
PAYLOAD = os.path.join(DIR.name, 'payload')
peek.write(PAYLOAD)
ID, PLIC_PENDING, IRQ = 0x102000, 0x0c001000, 12
GIVEN = '324e6eaf-d1d1-4bf6-bf41-b9bb6c91fb87'
ON_DISK = {'vmstate': 'disk0', 'devices': ['disk0']}


def image(name):
    path = os.path.join(DIR.name, name)
    subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', path, '64M'], check=True)
    return path


def start(path, *args, device='vmgenid'):
    return VM(BINARY, ['-m', '32M', '-bios', PAYLOAD, '-device', device, *disk_args(path), *args])


def seen(vm):
    """What the guest reads, and whether the interrupt is pending."""
    guest = peek.Peek(vm.serial.sock)
    text = str(uuid.UUID(bytes=guest.copy(ID, 16)))
    assert vm.qmp.cmd('query-vm-generation-id') == {'guid': text}
    return text, bool(guest.read(PLIC_PENDING) >> IRQ & 1)


def test_first_id():
    path = image('first')
    ids = set()
    for device in ('vmgenid', 'vmgenid,guid=auto', 'vmgenid,guid=' + GIVEN):
        with start(path, device=device) as vm:
            text, pending = seen(vm)
            assert not pending and vm.qmp.hmp('info vm-generation-id').strip() == text
            ids.add(text)
    assert len(ids) == 3 and GIVEN in ids


def test_every_load_changes_it():
    """Also when the ID was given: it is the same machine that lives its past again."""
    for device in ('vmgenid', 'vmgenid,guid=' + GIVEN):
        with start(image('load'), device=device) as vm:
            ids = [seen(vm)[0]]
            vm.qmp.run_job('snapshot-save', 'j', tag='t', **ON_DISK)
            assert seen(vm) == (ids[0], False), 'a save changes nothing'
            for _ in range(3):
                vm.qmp.run_job('snapshot-load', 'j', tag='t', **ON_DISK)
                text, pending = seen(vm)
                assert pending and text not in ids
                ids.append(text)


def test_failed_load_keeps_it():
    rule = '"inject-error": [{"iotype": "flush", "errno": 5}],'
    node = '{"driver": "qcow2", "node-name": "disk0", "file": {"driver": "blkdebug", %s ' \
           '"image": {"driver": "file", "filename": "%s"}}}'
    path = image('failed')
    with start(path) as vm:
        vm.qmp.run_job('snapshot-save', 'j', tag='t', **ON_DISK)
        assert vm.quit() == 0
    with VM(BINARY, ['-m', '32M', '-bios', PAYLOAD, '-device', 'vmgenid', '-blockdev',
                     node % (rule, path), '-device', 'virtio-blk-device,drive=disk0']) as vm:
        before = seen(vm)
        fails(lambda: vm.qmp.run_job('snapshot-load', 'j', tag='t', **ON_DISK), 'disk0')
        assert seen(vm) == before


def test_new_process():
    """The one that starts it says which ID, or gets one of its own."""
    path = image('template')
    with start(path, device='vmgenid,guid=' + str(uuid.uuid4())) as vm:
        first = seen(vm)[0]
        vm.qmp.run_job('snapshot-save', 'j', tag='t', **ON_DISK)
        assert vm.quit() == 0
    ids = {first}
    for device in ('vmgenid,guid=' + GIVEN, 'vmgenid', 'vmgenid'):
        with start(path, '-loadvm', 't', device=device) as vm:
            wait_status(vm.qmp, 'running')
            text, pending = seen(vm)
            assert pending and (text == GIVEN) == (GIVEN in device)
            ids.add(text)
            if text == GIVEN:
                vm.qmp.run_job('snapshot-load', 'j', tag='t', **ON_DISK)
                assert seen(vm)[0] != GIVEN
    assert len(ids) == 4


def test_file_may_be_loaded_again():
    """A state in a file makes clones as a snapshot does; one through a pipe goes on."""
    path = image('file')
    state = os.path.join(DIR.name, 'state')
    with start(path) as vm:
        first = seen(vm)[0]
        vm.qmp.cmd('migrate-set-capabilities',
                   capabilities=[{'capability': 'events', 'state': True}])
        vm.qmp.cmd('migrate', uri='file:' + state)
        vm.qmp.wait_event('MIGRATION', match=lambda d: d['status'] == 'completed')
        assert vm.quit() == 0
    ids = {first}
    for address, same in (('file:' + state, False), ('file:' + state, False),
                          ('exec:cat ' + state, True)):
        with start(path, '-incoming', address) as vm:
            wait_status(vm.qmp, 'running')
            text, pending = seen(vm)
            assert pending != same and (text == first) == same
            ids.add(text)
            assert vm.quit() == 0
    assert len(ids) == 3


def test_options():
    for args, text in ((['-device', 'vmgenid,guid=x'], "'x' is not a UUID"),
                       (['-device', 'vmgenid', '-device', 'vmgenid'], 'At most one vmgenid')):
        result = subprocess.run([BINARY, '-M', 'virt', '-display', 'none', '-nodefaults', *args],
                                capture_output=True, text=True, timeout=30)
        assert result.returncode == 1 and text in result.stderr, result.stderr
    with VM(BINARY, ['-m', '32M', '-bios', PAYLOAD]) as vm:
        fails(lambda: vm.qmp.cmd('query-vm-generation-id'), 'VM Generation ID device not found')


def run(vm, command):
    vm.serial.send(command + '; echo "<$?>"\n')
    vm.serial.expect('\n', 60)
    out = vm.serial.expect('<0>\r\n', 60)
    vm.serial.expect('guest#', 60)
    return out


def test_linux_reseeds_in_each_clone():
    """Two clones of one snapshot draw different numbers, and the kernel says why."""
    if not os.path.exists(os.path.join(guest_dir(), 'initrd.gz')):
        raise tap.Skip('no guest: make guest')
    machine = linux_args('256M', append='console=ttyS0') + ['-device', 'vmgenid']
    path = image('linux')
    with VM(BINARY, machine + disk_args(path)) as vm:
        vm.serial.expect('GUEST READY', 120)
        vm.serial.expect('guest#')
        assert 'vmgenid' in run(vm, 'cat /proc/interrupts')
        vm.qmp.run_job('snapshot-save', 'j', tag='t', **ON_DISK)
        assert vm.quit() == 0
    drawn = set()
    for i in range(2):
        clone = shutil.copyfile(path, os.path.join(DIR.name, f'clone{i}'))
        with VM(BINARY, machine + disk_args(clone) + ['-loadvm', 't']) as vm:
            wait_status(vm.qmp, 'running')
            vm.serial.send('\n')
            vm.serial.expect('reseeded due to virtual machine fork', 60)
            drawn.add(run(vm, 'dd if=/dev/urandom bs=32 count=1 2>/dev/null | md5sum'))
            assert vm.quit() == 0
    assert len(drawn) == 2


if __name__ == '__main__':
    tap.run(sys.modules[__name__], needs_guest=False)
