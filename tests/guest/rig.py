# SPDX-License-Identifier: GPL-2.0-or-later
"""A VM with the guest of bare.py and nodes that a test adds, over images of their own; with
blkdebug below them where a disk shall misbehave."""

import os
import subprocess
import tempfile
import time

import bare
from kfvm import QMPError, VM

MIB = 16


class Rig:
    """The VM is started when a test needs it, and anew when one left something behind."""

    def __init__(self, binary):
        self.binary = binary
        self.dir = tempfile.TemporaryDirectory(prefix='kffail-')
        self.payload = os.path.join(self.dir.name, 'payload')
        bare.write(self.payload, MIB)
        self.vm = None

    def path(self, name):
        return os.path.join(self.dir.name, name)

    def start(self, *extra, memory='32M'):
        self.stop()
        self.vm = VM(self.binary, ['-m', memory, '-bios', self.payload, *extra], monitors=2)
        self.vm.qmp.timeout = 20
        if '-S' not in extra:
            self.vm.serial.expect('hh')

    def stop(self):
        if self.vm and self.vm.process.poll() is None:
            self.vm.note_loop_stats()
            self.vm.kill()
        self.vm = None

    def running(self):
        """The VM; a new one if the last test left none."""
        if (not self.vm or self.vm.process.poll() is not None or self.vm.qmp.cmd('query-jobs') or
                self.vm.qmp.cmd('query-named-block-nodes')):
            self.start()
        self.vm.qmp.events.clear()
        return self.vm.qmp

    def image(self, name, size='64M', options=''):
        path = self.path(name)
        command = ['qemu-img', 'create', '-q', '-f', 'qcow2', path, size]
        subprocess.run(command + (['-o', options] if options else []), check=True)
        return path

    def add(self, node, path, *rules, **more):
        """A qcow2 node; its requests to the file go through the rules."""
        self.vm.qmp.cmd('blockdev-add', driver='qcow2', node_name=node,
                        file={'driver': 'blkdebug', 'inject-error': list(rules),
                              'image': {'driver': 'file', 'filename': path}}, **more)

    def delete(self, node):
        self.vm.qmp.cmd('blockdev-del', node_name=node)

    def unharmed(self):
        """The guest runs on, and its memory is what it wrote."""
        assert self.vm.qmp.cmd('query-status')['status'] == 'running'
        self.vm.serial.drain()
        self.vm.serial.expect('hh', 20)
        assert b'B' not in self.vm.serial.log, 'the guest found damage'


def on(*nodes):
    return {'vmstate': nodes[0], 'devices': list(nodes)}


def check_image(path, leaks=False):
    result = subprocess.run(['qemu-img', 'check', '-U', path], capture_output=True, text=True)
    assert result.returncode in ((0, 3) if leaks else (0,)), result.stdout + result.stderr


def tags(path):
    out = subprocess.run(['qemu-img', 'snapshot', '-l', '-U', path], check=True,
                         capture_output=True, text=True).stdout
    return [line.split()[1] for line in out.splitlines()[2:]]


def fails(function, *texts):
    """It fails, and the error has each of the texts; returns the error."""
    try:
        function()
    except QMPError as error:
        for text in texts:
            assert text in error.desc, f'{error.desc!r} has no {text!r}'
        return error.desc
    raise AssertionError(f'no error; expected {texts}')


def fault(kind, after, number=5, once=True):
    return {'iotype': kind, 'after': after, 'errno': number, 'once': once}


def slow(kind, milliseconds, after=0):
    return {'iotype': kind, 'delay-ns': milliseconds * 1000000, 'after': after}


def wait_status(qmp, status):
    while qmp.cmd('query-status')['status'] != status:
        qmp.wait_event('STOP' if status != 'running' else 'RESUME')


def wait_suspended(vm, times=1):
    """Until blkdebug has said so often that it holds a request."""
    deadline = time.monotonic() + 20
    while vm.errors().count('Suspended request') < times:
        assert time.monotonic() < deadline, vm.errors()
        time.sleep(0.01)


def saved_by(rig):
    """Makes an image with a snapshot 't' of the running guest."""
    def save(path):
        rig.add('source', path)
        rig.vm.qmp.run_job('snapshot-save', 'setup', tag='t', **on('source'))
        rig.delete('source')
    return save
