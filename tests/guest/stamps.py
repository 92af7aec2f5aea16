#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Saves and loads a guest that stamps pages and disk sectors in a fixed order, under load, and
lets it judge: a snapshot that is not of one instant of RAM, devices and two disks is seen.

usage: stamps.py KF-SYSTEM STAMP-GUEST bare|linux ROUNDS
"""

import random
import sys

from stamped import Stamped
import tap

BINARY, PAYLOAD, KIND, ROUNDS = sys.argv[1:4] + [int(sys.argv[4])]
KEPT = 4


def start(guest):
    guest.make_images()
    guest.start()
    guest.vm.serial.send('f')
    guest.raise_epoch()
    guest.save('1')


def save_args(rng):
    """Mostly live, with few buffers or many."""
    kind = rng.random()
    if kind < 0.1:
        return {'mode': 'stop'}
    if kind < 0.2:
        return {'compress': True}
    return {'bounce_limit': rng.choice([1 << 20, 64 << 20, 256 << 20])}


def test_rounds(guest):
    """Each saves - once or, sharing what has not changed, several times - and deletes, goes on,
    and loads one of those that are there; the guest checks all."""
    rng = random.Random(ROUNDS)
    start(guest)
    epochs = {'1': 1}  # of the snapshots that are there
    count = 1
    for number in range(ROUNDS):
        for _ in range(rng.choice([1, 1, 2, 3])):
            guest.new_epoch(epochs.values())
            count += 1
            guest.save(str(count), **save_args(rng))
            epochs[str(count)] = guest.epoch
            if rng.random() < 0.2:
                guest.delete(str(count))
                del epochs[str(count)]
        if rng.random() < 0.5:
            guest.new_epoch(epochs.values())
        tag = rng.choice(list(epochs)[-2:] + list(epochs))
        guest.load(tag, lazy=rng.random() < 0.7)
        guest.verify(epochs[tag])
        while len(epochs) > KEPT:
            # The first one stays: its fresh pages are the freshest.
            old = rng.choice(list(epochs)[1:])
            guest.delete(old)
            del epochs[old]
        if number % 50 == 49:
            guest.check()
    guest.check()
    for tag, epoch in epochs.items():
        guest.load(tag)
        guest.verify(epoch)
    guest.finish()


def test_load_follows_load(guest):
    """A load in the middle of a lazy load's fill, and a save there: they take turns."""
    start(guest)
    qmp = guest.vm.qmp
    for number in range(max(ROUNDS // 10, 2)):
        guest.new_epoch([1])
        qmp.cmd('snapshot-load', job_id='a', tag='1', vmstate='d0', devices=['d0', 'd1'])
        guest.save(f'during{number}')
        qmp.job_states('a', 'concluded')
        qmp.cmd('job-dismiss', id='a')
        guest.verify(1)
        guest.load(f'during{number}')
        guest.verify(1)
        guest.delete(f'during{number}')
    guest.finish()


def main():
    guest = Stamped(BINARY, PAYLOAD if KIND == 'bare' else None)
    try:
        tap.run(sys.modules[__name__], guest, needs_guest=KIND == 'linux')
    finally:
        guest.close()


main()
