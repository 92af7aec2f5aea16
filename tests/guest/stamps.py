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


def test_rounds(guest):
    """Each saves, goes on, and loads that one or an earlier one; the guest checks all."""
    rng = random.Random(ROUNDS)
    start(guest)
    kept = [1]
    count = 1  # the tag of the last save is the number that the guest's epoch had
    for number in range(ROUNDS):
        guest.epoch_up_to(count + 1)
        count += 1
        guest.save(str(count), bounce_limit=rng.choice([1 << 20, 64 << 20, 256 << 20]))
        kept.append(count)
        if rng.random() < 0.5:
            guest.epoch_up_to(count + 1)
        tag = rng.choice(kept[-2:] + kept)
        guest.load(str(tag), lazy=rng.random() < 0.7)
        guest.verify(tag)
        if len(kept) > KEPT:
            # The first one stays: its fresh pages are the freshest.
            guest.delete(str(kept.pop(1)))
        if number % 50 == 49:
            guest.check()
    guest.check()
    for tag in kept:
        guest.load(str(tag))
        guest.verify(tag)
    guest.finish()


def test_load_follows_load(guest):
    """A load in the middle of a lazy load's fill, and a save there: they take turns."""
    start(guest)
    qmp = guest.vm.qmp
    for number in range(max(ROUNDS // 10, 2)):
        guest.epoch_up_to(2)
        qmp.cmd('snapshot-load', job_id='a', tag='1', vmstate='d0', devices=['d0', 'd1'])
        guest.save(f'during{number}')
        qmp.job_states('a', 'concluded')
        qmp.cmd('job-dismiss', id='a')
        guest.verify(1)
        guest.load(f'during{number}')
        guest.verify(1)
        guest.delete(f'during{number}')
    guest.finish()


def test_orderly_end(guest):
    assert guest.vm.quit() == 0
    guest.check()


def main():
    guest = Stamped(BINARY, PAYLOAD if KIND == 'bare' else None)
    try:
        tap.run(sys.modules[__name__], guest, needs_guest=KIND == 'linux')
    finally:
        guest.close()


main()
