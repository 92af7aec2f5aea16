# SPDX-License-Identifier: GPL-2.0-or-later
"""A VM with the stamping guest (stamp/stamp.c) on two disks, each with an IOThread of its
own; for tests that must see a snapshot which is not of one instant."""

import os
import re
import subprocess
import tempfile

from kfvm import VM, linux_args
from rig import check_image, tags
import tap

NODES = ['d0', 'd1']
ON_BOTH = {'vmstate': 'd0', 'devices': NODES}


class Stamped:
    """binary: the emulator; payload: stamp-bare.elf, or None for the Linux process.

    rules: blkdebug rules below the first disk, second_rules below the other; extra: more of the command line; more: of VM's
    arguments.
    """

    def __init__(self, binary, payload, directory=None):
        self.binary = binary
        self.payload = payload
        self.own = None if directory else tempfile.TemporaryDirectory(prefix='kfstamp-')
        self.dir = directory or self.own.name
        self.images = [os.path.join(self.dir, f'{node}.qcow2') for node in NODES]
        self.vm = None
        self.epoch = 0
        self.patience = 120  # seconds
        self.second_rules = ()

    def make_images(self, size='2G', options='cluster_size=16k'):
        self.stop()
        for path in self.images:
            subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', '-o', options, path, size],
                           check=True)

    def disk_args(self, rules=()):
        args = []
        for node, path in zip(NODES, self.images):
            file = f'file.driver=file,file.filename={path}'
            faults = rules if node == NODES[0] else self.second_rules
            if faults:
                file = f'file.driver=blkdebug,file.image.driver=file,file.image.filename={path}'
                for i, rule in enumerate(faults):
                    for key, value in rule.items():
                        value = value if not isinstance(value, bool) else 'on' if value else 'off'
                        file += f',file.inject-error.{i}.{key}={value}'
            args += ['-object', f'iothread,id=thread-{node}',
                     '-blockdev', f'driver=qcow2,node-name={node},{file}',
                     '-device', f'virtio-blk-device,drive={node},iothread=thread-{node}']
        return args

    def launch(self, *extra, rules=(), memory='128M', **more):
        """The VM, its guest not yet waited for."""
        self.stop()
        guest = ['-m', memory, '-bios', self.payload] if self.payload else linux_args('256M')
        self.vm = VM(self.binary, guest + self.disk_args(rules) + list(extra), monitors=2,
                     **more)
        self.vm.qmp.timeout = self.patience

    def start(self, *extra, **more):
        self.launch(*extra, **more)
        if not self.payload:
            self.vm.serial.expect('GUEST READY', 240)
            self.vm.serial.expect('guest#')
            self.vm.serial.send('stamp /dev/vda /dev/vdb\n')
        self.vm.serial.expect('hh', 60)  # what came before the socket was there is lost
        self.epoch = 0

    def stop(self):
        if self.vm and self.vm.process.poll() is None:
            self.vm.kill()
        self.vm = None

    def close(self):
        self.stop()
        if self.own:
            self.own.cleanup()

    # --- The guest ----------------------------------------------------------------------------

    def raise_epoch(self):
        """The guest's epoch, in memory and on both disks, is one more."""
        self.vm.serial.send('e')
        self.epoch += 1
        self.vm.serial.expect(f'\nE {self.epoch}', self.patience)

    def new_epoch(self, used):
        """One that is not among those."""
        self.raise_epoch()
        while self.epoch in used:
            self.raise_epoch()

    def verify(self, epoch):
        """The guest finds every page and sector right, and that it is of this epoch."""
        self.vm.serial.drain()
        self.vm.serial.send('v')
        found = self.vm.serial.expect(' fresh=', self.patience)
        assert 'BAD' not in found and b'BAD' not in self.vm.serial.log, 'the guest found damage: ' + \
            ' '.join(re.findall('BAD[^\\r\\n]*', self.vm.serial.log.decode(errors='replace'))[:5])
        assert f'V OK epoch={epoch} ' in found, (epoch, found[-200:])
        self.epoch = epoch

    def beats(self):
        """It runs."""
        self.vm.serial.drain()
        self.vm.serial.expect('hh', 30)
        assert b'BAD' not in self.vm.serial.log, 'the guest found damage'

    def wait_instant(self):
        """Until the guest runs on behind the instant of a save or load just begun."""
        self.vm.qmp.wait_event('STOP')
        self.vm.qmp.events = [e for e in self.vm.qmp.events if e['event'] != 'RESUME']
        self.vm.qmp.wait_event('RESUME')

    # --- Snapshots ----------------------------------------------------------------------------

    def save(self, tag, job='save', **args):
        return self.vm.qmp.run_job('snapshot-save', job, tag=tag, **ON_BOTH, **args)

    def load(self, tag, job='load', **args):
        return self.vm.qmp.run_job('snapshot-load', job, tag=tag, **ON_BOTH, **args)

    def delete(self, tag, job='delete'):
        return self.vm.qmp.run_job('snapshot-delete', job, tag=tag, devices=NODES)

    def check(self, leaks=False):
        """While the machine is there clusters that a load or delete has freed may not have
        been given back yet."""
        alive = self.vm and self.vm.process.poll() is None
        if alive:
            was = self.vm.qmp.cmd('query-status')['status']
            self.vm.qmp.cmd('stop')
        for path in self.images:
            check_image(path, leaks or alive)
        if alive and was == 'running':
            self.vm.qmp.cmd('cont')

    def finish(self):
        """Ends the machine; its images must be perfect."""
        assert self.vm.quit() == 0
        self.check()

    def tags(self):
        """Of both images."""
        return [tags(path) for path in self.images]
