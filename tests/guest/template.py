#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines started from one read-only template: the snapshot lies in the backing file of
each one's own overlay.  What would give the guest a disk of another time is refused.

usage: template.py KF-SYSTEM
"""

import hashlib
import os
import shutil
import subprocess
import sys

from kfvm import VM
from rig import Rig, check_image, tags
import tap


def img(*args):
    subprocess.run(['qemu-img', *args], check=True, stdout=subprocess.DEVNULL)


def digest(path):
    with open(path, 'rb') as f:
        return hashlib.sha256(f.read()).hexdigest()


class Template(Rig):
    """A template of the bare guest, made once."""

    def __init__(self, binary):
        super().__init__(binary)
        self.template = self.path('template.qcow2')
        img('create', '-q', '-f', 'qcow2', self.template, '64M')
        subprocess.run(['qemu-io', '-c', 'write -P 7 0 1M', self.template], check=True,
                       stdout=subprocess.DEVNULL)
        with self.machine(self.template) as vm:
            vm.serial.expect('hh')
            vm.qmp.run_job('snapshot-save', 's', tag='ready', vmstate='disk0', devices=['disk0'])
            vm.serial.expect('hh')
            assert vm.quit() == 0
        os.chmod(self.template, 0o444)
        self.digest = digest(self.template)

    def args(self, image, memory='32M'):
        return ['-m', memory, '-bios', self.payload, '-blockdev',
                f'driver=qcow2,node-name=disk0,file.driver=file,file.filename={image}',
                '-device', 'virtio-blk-device,drive=disk0']

    def machine(self, image, *extra, **kwargs):
        return VM(self.binary, [*self.args(image, **kwargs), *extra])

    def overlay(self, name, template=None, size=None):
        path = self.path(name)
        img('create', '-q', '-f', 'qcow2', '-b', template or self.template, '-F', 'qcow2', path,
            *([size] if size else []))
        return path

    def refused(self, image, *words, option=('-loadvm', 'ready'), **kwargs):
        """It does not start, and one line says why."""
        command = [self.binary, '-M', 'virt', '-display', 'none', '-nodefaults',
                   *self.args(image, **kwargs), *option]
        result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                timeout=60)
        lines = result.stderr.splitlines()
        assert result.returncode == 1 and len(lines) == 1, result
        for word in words:
            assert word in lines[0], (word, lines[0])

    def runs_on(self, vm):
        """The guest goes on where it was: it has not started anew, its memory is right."""
        vm.serial.expect('hhhh', 20)
        assert b'R' not in vm.serial.log and b'B' not in vm.serial.log, vm.serial.log
        assert vm.qmp.cmd('query-status')['status'] == 'running'


def test_many_from_one(rig):
    vms = [rig.machine(rig.overlay(f'clone{i}.qcow2'), '-loadvm', 'ready') for i in range(4)]
    try:
        for vm in vms:
            rig.runs_on(vm)
        for vm in vms:
            assert vm.quit() == 0
    finally:
        for vm in vms:
            if vm.process.poll() is None:
                vm.kill()
    assert digest(rig.template) == rig.digest
    for i in range(4):
        check_image(rig.path(f'clone{i}.qcow2'))


def test_stopped_until_cont(rig):
    with rig.machine(rig.overlay('paused.qcow2'), '-S', '-loadvm', 'ready') as vm:
        while vm.qmp.cmd('query-status')['status'] == 'inmigrate':
            pass
        assert vm.qmp.cmd('query-status')['status'] == 'prelaunch'
        vm.qmp.cmd('cont')
        rig.runs_on(vm)
        assert vm.quit() == 0


def test_cont_before_it_is_loaded(rig):
    """A client that is quick finds the machine in state inmigrate; the guest does not start
    from its reset."""
    for _ in range(5):
        path = rig.overlay('quick.qcow2')
        with rig.machine(path, '-S', '-loadvm', 'ready') as vm:
            vm.qmp.cmd('cont')
            rig.runs_on(vm)
            assert vm.quit() == 0


def test_clone_has_its_own_snapshots(rig):
    path = rig.overlay('own.qcow2')
    with rig.machine(path, '-loadvm', 'ready') as vm:
        rig.runs_on(vm)
        vm.qmp.run_job('snapshot-save', 's', tag='mine', vmstate='disk0', devices=['disk0'])
        # and back to the template's, as long as nothing has been written to the disk
        assert vm.quit() == 0
    assert tags(path) == ['mine']
    with rig.machine(path, '-loadvm', 'mine') as vm:
        rig.runs_on(vm)
        assert vm.quit() == 0
    check_image(path)
    assert digest(rig.template) == rig.digest


def test_load_again_while_running(rig):
    with rig.machine(rig.overlay('again.qcow2'), '-loadvm', 'ready') as vm:
        rig.runs_on(vm)
        for _ in range(3):
            assert vm.qmp.hmp('loadvm ready') == ''
            rig.runs_on(vm)
        assert vm.quit() == 0


def test_chain_of_overlays(rig):
    middle = rig.overlay('middle.qcow2')
    top = rig.overlay('top.qcow2', template=middle)
    with rig.machine(top, '-loadvm', 'ready') as vm:
        rig.runs_on(vm)
        assert vm.quit() == 0
    subprocess.run(['qemu-io', '-c', 'write 0 512', middle], check=True,
                   stdout=subprocess.DEVNULL)
    rig.refused(top, 'has data of its own', 'template.qcow2')


def test_overlay_with_data(rig):
    path = rig.overlay('used.qcow2')
    subprocess.run(['qemu-io', '-c', 'write 1M 512', path], check=True,
                   stdout=subprocess.DEVNULL)
    rig.refused(path, '-loadvm ready: ', "Node 'disk0' has data of its own above",
                'template.qcow2', 'start from a new overlay')


def test_other_size(rig):
    rig.refused(rig.overlay('longer.qcow2', size='96M'), 'has 100663296 bytes', 'has 67108864')


def test_changed_template(rig):
    changed = rig.path('changed.qcow2')
    shutil.copy(rig.template, changed)
    os.chmod(changed, 0o644)
    subprocess.run(['qemu-io', '-c', 'write -P 9 0 64k', changed], check=True,
                   stdout=subprocess.DEVNULL)
    path = rig.overlay('over-changed.qcow2', template=changed)
    rig.refused(path, 'changed.qcow2', "has changed since snapshot 'ready'", 'snapshot -a')
    img('snapshot', '-a', 'ready', changed)
    with rig.machine(path, '-loadvm', 'ready') as vm:
        rig.runs_on(vm)
        assert vm.quit() == 0


def test_no_such_snapshot(rig):
    rig.refused(rig.overlay('none.qcow2'), "Snapshot 'nope' does not exist",
                option=('-loadvm', 'nope'))


def test_other_machine(rig):
    path = rig.overlay('other.qcow2')
    rig.refused(path, 'Size mismatch: riscv_virt_board.ram: 0x2000000 != 0x4000000', memory='64M')
    extra = rig.path('extra.qcow2')
    img('create', '-q', '-f', 'qcow2', extra, '1M')
    rig.refused(path, 'Machine state has no section', option=(
        '-blockdev', f'driver=qcow2,node-name=x,read-only=on,file.driver=file,file.filename={extra}',
        '-device', 'virtio-blk-device,drive=x', '-loadvm', 'ready'))


def test_incoming(rig):
    """The explicit way names the node with the snapshot; its overlays are checked too."""
    def args(image):
        return ['-m', '32M', '-bios', rig.payload, '-blockdev',
                f'driver=qcow2,node-name=base,read-only=on,file.driver=file,'
                f'file.filename={rig.template}',
                '-blockdev', f'driver=qcow2,node-name=disk0,backing=base,file.driver=file,'
                f'file.filename={image}',
                '-device', 'virtio-blk-device,drive=disk0',
                '-incoming', 'snapshot:node=base,name=ready']

    with VM(rig.binary, args(rig.overlay('incoming.qcow2'))) as vm:
        rig.runs_on(vm)
        assert vm.quit() == 0
    used = rig.overlay('incoming-used.qcow2')
    subprocess.run(['qemu-io', '-c', 'write 1M 512', used], check=True,
                   stdout=subprocess.DEVNULL)
    result = subprocess.run([rig.binary, '-M', 'virt', '-display', 'none', '-nodefaults',
                             *args(used)], stdin=subprocess.DEVNULL, capture_output=True,
                            text=True, timeout=60)
    assert result.returncode == 1 and 'has data of its own' in result.stderr, result


def main():
    rig = Template(sys.argv[1])
    try:
        tap.run(sys.modules[__name__], rig, needs_guest=False)
    finally:
        rig.dir.cleanup()


main()
