#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""kill -9 at random moments of saves, loads and deletes, with a guest that writes memory and two
disks all the time.  Afterwards Debian's qemu-img check finds leaks at most, and every snapshot
that was there before loads, memory and disks of one instant.

usage: crash.py KF-SYSTEM STAMP-GUEST KILLS
"""

import random
import signal
import subprocess
import sys
import time

from stamped import NODES, ON_BOTH, Stamped
import tap

BINARY, PAYLOAD, KILLS = sys.argv[1], sys.argv[2], int(sys.argv[3])
KEPT = 3


class Crashes:
    def __init__(self, guest, seed):
        self.guest = guest
        self.rng = random.Random(seed)
        self.epochs = {}  # of the snapshots that must load: tag -> epoch
        self.count = 0
        self.took = {'save': 0.1, 'load': 0.1, 'delete': 0.05}  # seconds, about
        self.kills = dict.fromkeys(self.took, 0)
        self.late = 0  # kills when the job was over

    def save(self):
        self.guest.new_epoch(self.epochs.values())
        self.count += 1
        tag = f's{self.count}'
        start = time.monotonic()
        self.guest.save(tag)
        self.took['save'] = time.monotonic() - start
        self.epochs[tag] = self.guest.epoch

    def begin(self, what):
        """Starts the job that will be interrupted; returns the tag it is about."""
        qmp = self.guest.vm.qmp
        if what == 'save':
            self.guest.new_epoch(self.epochs.values())
            self.count += 1
            tag = f's{self.count}'
            qmp.cmd('snapshot-save', job_id='j', tag=tag, **ON_BOTH)
        elif what == 'load':
            tag = self.rng.choice(list(self.epochs))
            qmp.cmd('snapshot-load', job_id='j', tag=tag, lazy=self.rng.random() < 0.6, **ON_BOTH)
        else:
            tag = self.rng.choice(list(self.epochs))
            qmp.cmd('snapshot-delete', job_id='j', tag=tag, devices=NODES)
        return tag

    def kill(self):
        """One job, one kill, and what must be there afterwards."""
        guest = self.guest
        while len(self.epochs) < KEPT:
            self.save()
        what = self.rng.choice(['save', 'save', 'load', 'delete'])
        tag = self.begin(what)
        time.sleep(self.rng.random() * 1.2 * self.took[what])
        guest.vm.kill(signal.SIGKILL)
        self.wait_unlocked()
        self.kills[what] += 1
        guest.check(leaks=True)
        on_vmstate, on_other = guest.tags()
        if what == 'delete':
            del self.epochs[tag]  # it may be on both disks, on one, or gone
            self.drop_by_hand(tag)
        elif what == 'save':
            if tag in on_vmstate:  # published last: where RAM is, the rest is, too
                self.late += 1
                assert tag in on_other, (on_vmstate, on_other)
                self.epochs[tag] = guest.epoch
            else:
                self.drop_by_hand(tag)
        for name, tags in zip(NODES, guest.tags()):
            assert set(self.epochs) <= set(tags), f'{what} {tag}, {name}: {tags} of {self.epochs}'
        self.all_load(what, tag)

    def wait_unlocked(self):
        """The kernel drops an io_uring's files, and their locks, a little after the process."""
        deadline = time.monotonic() + 30
        for path in self.guest.images:
            while subprocess.run(['qemu-img', 'info', path], capture_output=True,
                                 check=False).returncode:
                assert time.monotonic() < deadline, f'{path} stays locked'
                time.sleep(0.01)

    def drop_by_hand(self, tag):
        """Debian's qemu-img removes what an interrupted job left of a snapshot."""
        for path, tags in zip(self.guest.images, self.guest.tags()):
            if tag in tags:
                subprocess.run(['qemu-img', 'snapshot', '-d', tag, path], check=True)

    def all_load(self, what, tag):
        order = list(self.epochs)
        self.rng.shuffle(order)
        try:
            self.guest.launch('-loadvm', order[0])
            self.guest.beats()  # what is sent before that is lost with the state before
            for number, name in enumerate(order):
                if number:
                    self.guest.load(name, lazy=self.rng.random() < 0.5)
                self.guest.verify(self.epochs[name])
        except Exception as error:
            raise AssertionError(f'after a kill in {what} {tag}: {name}: {error}') from error
        while len(self.epochs) > KEPT:
            start = time.monotonic()
            old = next(iter(self.epochs))
            self.guest.delete(old)
            self.took['delete'] = time.monotonic() - start
            del self.epochs[old]


def test_kills(guest):
    crashes = Crashes(guest, KILLS)
    guest.make_images(size='256M', options='cluster_size=64k')
    guest.start()
    guest.raise_epoch()
    for number in range(KILLS):
        crashes.kill()
        if number % 20 == 19:  # what leaked is collected, and the images are as new
            guest.stop()
            for path in guest.images:
                subprocess.run(['qemu-img', 'check', '-q', '-r', 'leaks', path], check=True,
                               capture_output=True)
            guest.check()
            guest.launch('-loadvm', next(iter(crashes.epochs)))
            guest.beats()
            guest.verify(next(iter(crashes.epochs.values())))
    assert guest.vm.quit() == 0
    print(f'# {crashes.kills}, {crashes.late} saves were published')


def main():
    guest = Stamped(BINARY, PAYLOAD)
    try:
        tap.run(sys.modules[__name__], guest, needs_guest=False)
    finally:
        guest.close()


main()
