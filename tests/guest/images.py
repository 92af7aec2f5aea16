#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Images that a running machine makes and changes: blockdev-create and change-backing-file
answer as QEMU does, where it is installed, and qemu-img finds what was asked for.

usage: images.py KF-SYSTEM
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile

from kfvm import QMPError, VM
from rig import fails
import tap

BINARY = sys.argv[1]
REFERENCE = shutil.which('qemu-system-riscv64', path='/usr/bin')
MIB = 1 << 20
# What is the same in both, in this order; {d} is the directory.
FILES = [
    {'driver': 'file', 'filename': '{d}/a', 'size': MIB},
    {'driver': 'file', 'filename': '{d}/nope/a', 'size': MIB},
    {'driver': 'file', 'filename': '{d}/b', 'size': 1024, 'preallocation': 'full'},
    {'driver': 'file', 'filename': '{d}/b', 'size': 1024, 'nocow': True, 'extent-size-hint': 0},
    {'driver': 'file', 'filename': '{d}/b', 'size': 1024, 'preallocation': 'metadata'},
    {'driver': 'file', 'filename': '{d}/b'}, {'driver': 'raw'}, {'driver': 'null-co'},
    {'driver': 'nope'}, {'driver': 'raw', 'size': 512}, {'driver': 'qcow2', 'size': 512},
    {'driver': 'qcow2', 'file': 'nope', 'size': MIB}]
QCOW2 = [
    {'size': 10 * MIB + 1}, {'version': 'v2', 'lazy-refcounts': True}, {'cluster-size': 1000},
    {'backing-fmt': 'raw'}, {'refcount-bits': 3}, {'refcount-bits': -1}, {'size': -1},
    {'refcount-bits': 8, 'version': 'v2'}, {'compression-type': 'zstd', 'version': 'v2'},
    {'preallocation': 'metadata'}, {'cluster-size': 4096, 'extended-l2': False},
    {'compression-type': 'zstd', 'extended-l2': True, 'lazy-refcounts': True,
     'refcount-bits': 1},
    {'size': 0}, {'size': 8 * MIB, 'version': 'v2', 'backing-file': '{d}/b', 'backing-fmt': 'raw'}]


class Machine(VM):
    """With a directory of its own."""

    def __init__(self, binary=BINARY):
        self.files = tempfile.TemporaryDirectory(prefix='kfimg-')
        super().__init__(binary, ['-S', '-m', '16M', '-bios', 'none'])

    def path(self, name):
        return os.path.join(self.files.name, name)

    def cleanup(self):
        super().cleanup()
        self.files.cleanup()

    def create(self, options):
        """The error, or what is left of the job, without the directory's name."""
        here = self.files.name
        options = json.loads(json.dumps(options).replace('{d}', here))
        try:
            job = self.qmp.run_job('blockdev-create', 'make', options=options)
        except QMPError as error:
            return error.desc.replace(here, '{d}')
        return job['type'], job['status'], job['current-progress'], job['total-progress']

    def info(self, name):
        """What qemu-img says of an image, which is sound."""
        subprocess.run(['qemu-img', 'check', '-q', '-U', self.path(name)], check=True)
        info = json.loads(subprocess.run(
            ['qemu-img', 'info', '-U', '--output=json', self.path(name)], check=True,
            capture_output=True, text=True).stdout.replace(self.files.name, '{d}'))
        return {k: info.get(k) for k in ('virtual-size', 'format', 'cluster-size', 'format-specific',
                                         'backing-filename', 'backing-filename-format')}


def course(vm):
    """The answers to all of FILES and QCOW2, and the images."""
    for options in FILES:
        yield options, vm.create(options)
    vm.qmp.cmd('blockdev-add', driver='file', node_name='f', filename=vm.path('a'))
    for more in QCOW2:
        result = vm.create({'driver': 'qcow2', 'file': 'f', 'size': MIB, **more})
        yield more, result
        if not isinstance(result, str):
            yield more, vm.info('a')
    # in a node that lives as long as the job
    yield 'c', vm.create({'driver': 'file', 'filename': '{d}/c', 'size': 0})
    yield 'c', vm.create({'driver': 'qcow2', 'file': {'driver': 'file', 'filename': vm.path('c')},
                          'size': 8 * MIB, 'preallocation': 'falloc'})
    yield 'c', vm.info('c')


def test_images_are_those_of_qemu():
    with Machine() as vm:
        ours = list(course(vm))
        made = [result for _, result in ours if isinstance(result, dict)]
        assert len(made) == 6 and all(m['format'] == 'qcow2' for m in made), made
        if REFERENCE:
            with Machine(REFERENCE) as reference:
                for (what, mine), (_, theirs) in zip(ours, course(reference)):
                    assert mine == theirs, (what, mine, theirs)
        assert vm.quit() == 0


def test_what_is_in_use_is_not_written_over():
    with Machine() as vm:
        qmp, image = vm.qmp, vm.path('a')
        subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', image, '8M'], check=True)
        qmp.cmd('blockdev-add', driver='file', node_name='f', filename=image)
        qmp.cmd('blockdev-add', driver='qcow2', node_name='q', file='f')
        with open(image, 'rb') as file:
            before = file.read()
        for options in ({'driver': 'qcow2', 'file': 'f', 'size': MIB},
                        {'driver': 'file', 'filename': image, 'size': 0}):
            error = vm.create(options)
            assert isinstance(error, str) and '\n' not in error, error
        with open(image, 'rb') as file:
            assert file.read() == before
        qmp.cmd('blockdev-del', node_name='q')
        assert vm.create({'driver': 'qcow2', 'file': 'f', 'size': MIB})[1] == 'concluded'
        assert vm.info('a')['virtual-size'] == MIB
        fails(lambda: qmp.cmd('blockdev-create', job_id='1', options={
            'driver': 'file', 'filename': image, 'size': 0}), "Invalid job ID '1'")
        assert vm.quit() == 0


def test_a_migration_and_the_node():
    """While it goes on the job waits for it; afterwards the node is the other side's."""
    with Machine() as vm, socket.socket(socket.AF_UNIX) as server:
        qmp = vm.qmp
        server.bind(vm.path('unread'))
        server.listen(1)
        assert vm.create({'driver': 'file', 'filename': '{d}/a', 'size': 0})[1] == 'concluded'
        qmp.cmd('blockdev-add', driver='file', node_name='f', filename=vm.path('a'))
        qmp.cmd('migrate-set-capabilities',
                capabilities=[{'capability': 'events', 'state': True}])
        qmp.cmd('migrate', uri='unix:' + vm.path('unread'))
        qmp.wait_event('MIGRATION', match=lambda d: d['status'] == 'active')
        qmp.cmd('blockdev-create', job_id='wait',
                options={'driver': 'qcow2', 'file': 'f', 'size': MIB})
        assert [j['status'] for j in qmp.cmd('query-jobs')] == ['created']
        # a file is nobody's yet
        assert vm.create({'driver': 'file', 'filename': '{d}/b', 'size': 0})[1] == 'concluded'
        qmp.cmd('migrate_cancel')
        qmp.job_states('wait', 'concluded')
        assert 'error' not in qmp.cmd('query-jobs')[0]
        qmp.cmd('job-dismiss', id='wait')
        assert vm.info('a')['virtual-size'] == MIB
        qmp.events.clear()
        qmp.cmd('migrate', uri='exec:cat > /dev/null')
        qmp.wait_event('MIGRATION', match=lambda d: d['status'] == 'completed')
        error = vm.create({'driver': 'qcow2', 'file': 'f', 'size': MIB})
        assert error == "Node 'f' is inactive: the other side of a migration uses it", error
        assert vm.quit() == 0


# --- change-backing-file ------------------------------------------------------------------------


def chain(vm):
    """base.raw <- mid <- top, and another image."""
    def make(name, *options):
        subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', *options, vm.path(name), '1M'],
                       check=True)

    def node(name, **more):
        return {'driver': 'qcow2', 'node-name': name,
                'file': {'driver': 'file', 'filename': vm.path(name)}, **more}

    with open(vm.path('base'), 'wb') as file:
        file.truncate(MIB)
    make('mid', '-b', vm.path('base'), '-F', 'raw')
    make('top', '-b', vm.path('mid'), '-F', 'qcow2')
    make('other')
    base = {'driver': 'raw', 'node-name': 'base',
            'file': {'driver': 'file', 'filename': vm.path('base')}}
    vm.qmp.cmd('blockdev-add', **node('top', backing=node('mid', backing=base)))
    vm.qmp.cmd('blockdev-add', **node('other'))


def change(vm, device, node, name):
    try:
        return vm.qmp.cmd('change-backing-file', device=device, image_node_name=node,
                          backing_file=name)
    except QMPError as error:
        return error.desc


def test_wrong_changes_are_refused_as_by_qemu():
    if not REFERENCE:
        raise tap.Skip('no qemu-system-riscv64')
    with Machine() as vm, Machine(REFERENCE) as reference:
        for machine in (vm, reference):
            chain(machine)
        for args in (('nope', 'top'), ('top', 'nope'), ('top', 'base'), ('other', 'mid'),
                     ('mid', 'top'), ('mid', 'mid'), ('other', 'other')):
            ours, theirs = (change(m, *args, 'x') for m in (vm, reference))
            assert isinstance(ours, str) and ours == theirs, (args, ours, theirs)
        assert vm.quit() == 0


def test_the_name_is_changed_and_nothing_else():
    with Machine() as vm:
        chain(vm)
        for node, name, fmt in (('top', '/new/top', 'qcow2'), ('mid', '/new/mid', 'raw'),
                                ('top', '/newer', 'qcow2')):
            assert change(vm, 'top', node, name) == {}
            info = json.loads(subprocess.run(
                ['qemu-img', 'info', '-U', '--output=json', vm.path(node)], check=True,
                capture_output=True, text=True).stdout)
            assert (info['backing-filename'], info['backing-filename-format']) == (name, fmt), info
        nodes = {n['node-name']: n['ro'] for n in vm.qmp.cmd('query-named-block-nodes')}
        assert (nodes['top'], nodes['mid'], nodes['base']) == (False, True, True), nodes
        assert 'Could not change backing file' in change(vm, 'top', 'top', 'x' * 1100)
        assert vm.quit() == 0


if __name__ == '__main__':
    tap.run(sys.modules[__name__], needs_guest=False)
