# SPDX-License-Identifier: GPL-2.0-or-later
"""Sixty-four sessions that are all busy with a command that takes a second, and a sixty-fifth."""

import json
import os
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'guest'))
import bare  # noqa: E402
from kfvm import Meter, VM  # noqa: E402

SESSIONS = 64
SECONDS = 5
FLUSH_NS = 500 * 10**6  # two flushes: a savevm that takes a second, as the other commands do


def image(directory, name):
    path = os.path.join(directory, name)
    subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', path, '64M'], check=True)
    return path


class Busy:
    """The sessions, each a thread that repeats its command.  QEMU has no such delay to offer:
    its commands hold up all sessions alike."""

    def __init__(self, vm, directory):
        self.over = threading.Event()
        self.errors = []
        self.rounds = [0] * SESSIONS
        self.savevm_seconds = []
        works = [self._savevm] + [self._slow_node(i, image(directory, f'slow{i}.qcow2'))
                                  for i in range(1, SESSIONS)]
        self.threads = [threading.Thread(target=self._repeat, args=(i, vm.session(0), work))
                        for i, work in enumerate(works)]
        for thread in self.threads:
            thread.start()

    def _repeat(self, i, qmp, work):
        try:
            while not self.over.is_set():
                work(qmp)
                self.rounds[i] += 1
        except Exception as error:  # for the thread that ends this
            self.errors.append(error)
        qmp.close()

    def _savevm(self, qmp):
        for line in 'savevm busy', 'delvm busy':
            start = time.monotonic()
            said = qmp.hmp(line, 60)
            if said:
                raise RuntimeError(said)
            if line.startswith('savevm'):
                self.savevm_seconds.append(time.monotonic() - start)

    @staticmethod
    def _slow_node(i, path):
        def work(qmp):
            # Read-only: savevm has nothing to do with them.
            qmp.cmd('blockdev-add', 60, driver='qcow2', node_name=f'slow{i}', read_only=True, file={
                'driver': 'blkdebug', 'image': {'driver': 'file', 'filename': path},
                'inject-error': [{'iotype': 'read', 'delay-ns': 10**9, 'once': True}]})
            qmp.cmd('blockdev-del', 60, node_name=f'slow{i}')
        return work

    def end(self):
        self.over.set()
        for thread in self.threads:
            thread.join()
        if self.errors:
            raise self.errors[0]


def window(vm, meter):
    """Milliseconds: of query-status on the session that is measured, and of the main loop."""
    vm.qmp.cmd('query-main-loop-stats', reset=True)
    meter.begin()
    time.sleep(SECONDS)
    figures = meter.end()
    loop = vm.qmp.cmd('query-main-loop-stats')
    return {'p99': figures['p99'] / 1e3, 'max': figures['max'] / 1e3, 'n': figures['n'],
            'loop': loop['longest-us'] / 1e3}


def bench(build, binary, directory, rounds, table):
    """The median of the rounds, each with an idle window beside a busy one."""
    payload = os.path.join(directory, 'payload')
    bare.write(payload, 16)
    disk = {'driver': 'qcow2', 'node-name': 'disk0', 'file': {
        'driver': 'blkdebug', 'image': {'driver': 'file',
                                        'filename': image(directory, 'disk.qcow2')},
        'inject-error': [{'iotype': 'flush', 'delay-ns': FLUSH_NS}]}}
    vm = VM(binary, ['-m', '128M', '-bios', payload, '-blockdev', json.dumps(disk),
                     '-device', 'virtio-blk-device,drive=disk0'], monitors=2)
    meter = Meter(build, 'qmp', vm.qmp_paths[1], 500)
    found, savevms = [], []
    try:
        for _ in range(rounds):
            idle = window(vm, meter)
            busy = Busy(vm, directory)
            while min(busy.rounds) == 0 and not busy.errors:
                time.sleep(0.01)  # until each has done its command once
            found.append((idle, window(vm, meter)))
            busy.end()
            savevms += busy.savevm_seconds
    finally:
        meter.close()
        vm.quit()
    idle, busy = ([r[i] for r in found] for i in range(2))

    def middle(figures, key):
        return sorted(f[key] for f in figures)[len(figures) // 2]

    ratio = middle(busy, 'p99') / middle(idle, 'p99')
    table.add('65th session, idle: p99 of query-status', 'ms', None, middle(idle, 'p99'))
    table.add('65th session, 64 busy: p99 of query-status', 'ms', None, middle(busy, 'p99'))
    table.add('65th session, 64 busy: slowest', 'ms', None, max(f['max'] for f in busy))
    table.add('65th session: p99, 64 busy / idle', '', None, ratio, '<= 2', ratio <= 2)
    table.add('(64 busy: a savevm takes)', 's', None, sorted(savevms)[len(savevms) // 2])
    loop = max(f['loop'] for f in busy)
    table.add('64 busy: main loop, longest time without polling', 'ms', None, loop, '<= 5 ms',
              loop <= 5)
    return [{'idle': i, 'busy': b} for i, b in found]
