#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Saves, loads and deletes met at every step: cancelled, held up, by a client that goes away,
by two clients at once.  The stamping guest tells whether it is the machine that it should be.

usage: steps.py KF-SYSTEM STAMP-GUEST EVERY
EVERY: each EVERY-th request to the disk is a step; 1 takes them all.
"""

import random
import subprocess
import sys
import threading
import time

from kfvm import QMPError
from rig import check_image, slow, tags
from stamped import NODES, ON_BOTH, Stamped
import tap

BINARY, PAYLOAD, EVERY = sys.argv[1], sys.argv[2], int(sys.argv[3])
HELD_MS = 300


ALL = {'vmstate': 'held', 'devices': ['held', *NODES]}


class Steps:
    """The guest's two disks, and beside them a node 'held' that stores the machine's state
    and whose requests are held up."""

    def __init__(self, guest):
        self.guest = guest
        self.path = guest.dir + '/held.qcow2'

    def fresh(self):
        self.guest.make_images(size='256M', options='cluster_size=64k')
        self.guest.start('-trace', 'blkdebug_rule')
        self.guest.raise_epoch()
        subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', self.path, '64M'], check=True)

    def add(self, *rules):
        self.guest.vm.qmp.cmd('blockdev-add', driver='qcow2', node_name='held',
                              file={'driver': 'blkdebug', 'inject-error': list(rules),
                                    'image': {'driver': 'file', 'filename': self.path}})

    def remove(self):
        self.guest.vm.qmp.cmd('blockdev-del', node_name='held')

    def held(self):
        """How many requests have been held up."""
        return self.guest.vm.errors().count('blkdebug_rule ')

    def tags(self):
        """What all three agree on."""
        each = [sorted(tags(path)) for path in (self.path, *self.guest.images)]
        assert each[0] == each[1] == each[2], each
        return each[0]

    def check(self, ended=False):
        """What a load replaced is given back in the background: until the end there may be
        leaks."""
        self.guest.check(leaks=not ended)
        check_image(self.path, leaks=not ended)

    def end(self):
        assert self.guest.vm.quit() == 0
        self.check(ended=True)


def concluded(qmp, job):
    """Waits for the job's end, dismisses it and returns its error or None."""
    qmp.job_states(job, 'concluded')
    info = [j for j in qmp.cmd('query-jobs') if j['id'] == job]
    qmp.cmd('job-dismiss', id=job)
    qmp.job_states(job, 'null')
    return info[0].get('error')


def is_running(qmp, job):
    return [j['status'] for j in qmp.cmd('query-jobs') if j['id'] == job] != ['concluded']


def cancel(qmp, job):
    """Whether the cancel was taken."""
    try:
        qmp.cmd('job-cancel', id=job)
        return True
    except QMPError:
        return False  # too late


def each_step(steps, kind, begin, look, cancelling):
    """Holds the N-th request of that kind up for N = 0, EVERY, 2 * EVERY... until all of the
    job is done before a request is held; cancels, or not, while it is held; then looks.
    Returns how many were held."""
    guest = steps.guest
    qmp = guest.vm.qmp
    after = 0
    while True:
        held = steps.held()
        steps.add({**slow(kind, HELD_MS, after), 'once': True})
        begin(qmp)
        taken = False
        if cancelling:
            while steps.held() == held and is_running(qmp, 'step'):
                time.sleep(0.01)
            taken = cancel(qmp, 'step')
        else:
            assert qmp.cmd('query-status')['status'] in ('running', 'save-vm', 'restore-vm')
        error = concluded(qmp, 'step')
        assert error is None or (taken and 'cancel' in error), (after, error)
        look(error)
        steps.remove()
        steps.check()
        if steps.held() == held:
            steps.end()
            return held
        after += EVERY


def saves(steps, cancelling):
    def begin(qmp):
        qmp.cmd('snapshot-save', job_id='step', tag='t', **ALL)

    def look(error):
        steps.guest.verify(1)
        assert steps.tags() == ([] if error else ['t']), (error, steps.tags())
        if not error:
            steps.guest.vm.qmp.run_job('snapshot-delete', 'd', tag='t', devices=ALL['devices'])

    steps.fresh()
    return each_step(steps, 'write', begin, look, cancelling)


def loads(steps, kind, cancelling):
    """A load that is cancelled leaves the machine as it was."""
    guest = steps.guest
    state = {'epoch': 2, 'lazy': False}

    def begin(qmp):
        state['lazy'] = not state['lazy']
        qmp.cmd('snapshot-load', job_id='step', tag='t', lazy=state['lazy'], **ALL)

    def look(error):
        guest.verify(state['epoch'] if error else 1)
        while guest.epoch < 2:
            guest.raise_epoch()
        assert steps.tags() == ['t']

    steps.fresh()
    steps.add()
    guest.vm.qmp.run_job('snapshot-save', 's', tag='t', **ALL)
    steps.remove()
    guest.raise_epoch()
    return each_step(steps, kind, begin, look, cancelling)


def deletes(steps, cancelling):
    guest = steps.guest

    def begin(qmp):
        if not steps.tags():
            qmp.run_job('snapshot-save', 's', tag='t', **ALL)
        qmp.cmd('snapshot-delete', job_id='step', tag='t', devices=ALL['devices'])

    def look(error):
        guest.verify(1)
        each = [tags(path) for path in (steps.path, *guest.images)]
        assert error or each == [[], [], []], each
        if each != [[], [], []]:  # what is left of it can be deleted
            guest.vm.qmp.run_job('snapshot-delete', 'd', tag='t', devices=ALL['devices'])
            steps.tags()

    steps.fresh()
    return each_step(steps, 'write', begin, look, cancelling)


def test_cancel_of_save(steps):
    assert saves(steps, True) > 1


def test_cancel_of_load(steps):
    assert loads(steps, 'read', True) > 1


def test_cancel_of_load_at_writes(steps):
    assert loads(steps, 'write', True) >= 1


def test_cancel_of_delete(steps):
    assert deletes(steps, True) >= 1


def test_slow_request_of_save(steps):
    assert saves(steps, False) > 1


def test_slow_request_of_load(steps):
    assert loads(steps, 'read', False) > 1


def test_client_goes_away(steps):
    """In each kind of job: the job goes on, and somebody else sees it end."""
    guest = steps.guest
    steps.fresh()
    steps.add(slow('write', 2))
    for command, args in (('snapshot-save', ALL), ('snapshot-load', ALL),
                          ('snapshot-delete', {'devices': ALL['devices']})):
        client = guest.vm.session(1)
        client.cmd(command, job_id='step', tag='t', **args)
        client.close()
        assert concluded(guest.vm.qmp, 'step') is None
        guest.verify(1)
    assert steps.tags() == []
    steps.remove()
    steps.end()


def test_two_clients(steps):
    """Each saves, loads and deletes snapshots of its own, at once, and neither waits for long
    for an answer to a question."""
    guest = steps.guest
    steps.fresh()
    failures, slowest = [], [0.0]
    rounds = 40 // EVERY + 5

    def client(number):
        rng = random.Random(number)
        mine = []
        try:
            qmp = guest.vm.session(number)
            qmp.timeout = 120
            for turn in range(rounds):
                job, tag = f'c{number}-{turn}', f'c{number}-{turn}'
                choice = rng.random() if mine else 0
                if choice < 0.4:
                    qmp.cmd('snapshot-save', job_id=job, tag=tag, **ON_BOTH)
                    mine.append(tag)
                elif choice < 0.7:
                    qmp.cmd('snapshot-load', job_id=job, tag=rng.choice(mine), **ON_BOTH)
                else:
                    tag = mine.pop(rng.randrange(len(mine)))
                    qmp.cmd('snapshot-delete', job_id=job, tag=tag, devices=NODES)
                start = time.monotonic()
                qmp.cmd('query-status')
                slowest[0] = max(slowest[0], time.monotonic() - start)
                error = concluded(qmp, job)
                assert error is None, error
            for tag in mine:
                qmp.run_job('snapshot-delete', f'c{number}-end', tag=tag, devices=NODES)
            qmp.close()
        except Exception as error:  # told by the main thread
            failures.append(f'client {number}: {error!r}')

    guest.vm.qmp.close()
    threads = [threading.Thread(target=client, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    guest.vm.qmp = guest.vm.session(0)
    assert not failures, failures
    assert slowest[0] < 1, slowest
    guest.verify(1)
    assert guest.tags() == [[], []]
    steps.end()


def main():
    guest = Stamped(BINARY, PAYLOAD)
    try:
        tap.run(sys.modules[__name__], Steps(guest), needs_guest=False)
    finally:
        guest.close()


main()
