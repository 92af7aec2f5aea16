#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Hazards that snapshots are designed against: each has its test, and the test is run once
more on a program whose measure against that hazard is switched off (KEYFRAME_BREAK, see
include/util/countermeasure.h): there it must fail.

usage: hazards.py KF-SYSTEM KF-SYSTEM-BREAKABLE STAMP-GUEST
"""

import ctypes
import os
import statistics
import subprocess
import sys
import tempfile

from kfvm import QMPError, Timeout
from rig import slow
from stamped import ON_BOTH, Stamped
import tap

SOUND, BREAKABLE, PAYLOAD = sys.argv[1:4]
PR_SET_THP_DISABLE = 41


class Case:
    """One VM for one check; broken: what is switched off."""

    def __init__(self, broken):
        self.env = {'KEYFRAME_BREAK': broken} if broken else {}
        self.guest = Stamped(BREAKABLE if broken else SOUND, PAYLOAD)
        if broken:
            self.guest.patience = 10  # it may well hang

    def start(self, *extra, images=None, **more):
        self.guest.make_images(**(images or {}))
        self.guest.start(*extra, env=self.env, **more)
        return self.guest

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.guest.close()


def shown(check, broken):
    """The check passes, and fails with the measure switched off: at the first try unless the
    host gave the guest no CPU at the wrong moment."""
    with Case(None) as case:
        check(case)
    for _ in range(10):
        try:
            with Case(broken) as case:
                check(case)
        except (AssertionError, QMPError, Timeout) as failure:
            print(f'# without {broken}: {str(failure)[:160]!r}', flush=True)
            return
    raise AssertionError(f'nothing noticed that {broken} is switched off')


# --- One instant --------------------------------------------------------------------------------


def instants(case, rounds=8, **more):
    guest = case.start(**more)
    guest.raise_epoch()
    for number in range(rounds):
        guest.save(str(number))
        guest.raise_epoch()
        guest.load(str(number), lazy=number % 2 == 0)
        guest.verify(1)
        guest.delete(str(number))


def test_ram_is_armed_before_the_guest_goes_on(_):
    """The deliberately broken build: protection armed after release."""
    shown(instants, 'arm-before-release')


def test_a_write_shares_its_table_first(_):
    """A write of the guest into an L2 table that the snapshot has not got yet."""
    def check(case):
        # Writing takes long, so the guest reaches tables that the walk has not.
        instants(case, rounds=4, rules=[slow('write', 5)])
    shown(check, 'share-before-write')


def test_untouched_pages(_):
    """Pages that nobody had touched at the instant are zero in the snapshot, whatever is
    written to them while the rest is being saved."""
    def check(case):
        guest = case.start(rules=[slow('write', 10)])
        guest.raise_epoch()
        guest.vm.qmp.cmd('snapshot-save', job_id='s', tag='t', **ON_BOTH)
        guest.wait_instant()
        guest.vm.serial.send('f')
        guest.vm.qmp.job_states('s', 'concluded')
        guest.vm.qmp.cmd('job-dismiss', id='s')
        guest.load('t', lazy=False)
        guest.verify(1)
    shown(check, 'untouched')


def test_writes_between_saves_are_marked(_):
    """A page that was written since the snapshot with which the next one shares the rest."""
    def check(case):
        guest = case.start()
        guest.save('0')
        for number in (1, 2, 3):
            guest.raise_epoch()
            guest.save(str(number))
        for number in (2, 1, 3):
            guest.load(str(number))
            guest.verify(number)
    shown(check, 'mark-dirty')


# --- Who may wait ---------------------------------------------------------------------------------


def test_only_vcpus_wait_for_buffers(_):
    """An IOThread whose write to guest memory waits for a buffer, which only its own next
    write to the disk would free."""
    def check(case):
        guest = case.start(rules=[slow('write', 3)])
        guest.raise_epoch()
        for number in range(3):
            stats = guest.save(str(number), bounce_limit=4096)['snapshot-stats']
            # What is above the limit is the reserve, which devices alone may use.
            assert stats['bounce-waits'] and stats['bounce-peak'] < 4 << 20, stats
            guest.beats()
    shown(check, 'only-vcpus-wait')


def unprivileged():
    """Runs a command without the right to see faults inside the kernel."""
    command = ['setpriv', '--bounding-set=-all', '--inh-caps=-all', '--ambient-caps=-all',
               '--reuid=65534', '--regid=65534', '--clear-groups']
    if subprocess.run([*command, 'true'], capture_output=True, check=False).returncode:
        raise tap.Skip('setpriv is not allowed')
    return command


def test_dma_touches_pages_first(_):
    """Without the right to see faults inside the kernel, its writes to protected pages
    fail: every page that a request shall fill is written by ourselves before."""
    run = unprivileged()
    if subprocess.run([*run, 'test', '-r', '/dev/userfaultfd'], check=False).returncode == 0:
        raise tap.Skip('everybody may see faults inside the kernel here')

    def check(case):
        guest = case.guest
        os.chmod(guest.dir, 0o777)
        guest.make_images()
        for path in guest.images:
            os.chmod(path, 0o666)
        sockets = tempfile.mkdtemp(dir=guest.dir)
        os.chmod(sockets, 0o777)
        guest.start(env=case.env, run=run, directory=sockets, rules=[slow('write', 3)])
        guest.raise_epoch()
        for number in range(3):
            stats = guest.save(str(number))['snapshot-stats']
            assert stats['mode'] == 'live', stats
            guest.beats()
        guest.load('1')
        guest.verify(1)
    shown(check, 'touch-before-dma')


# --- Standstill -----------------------------------------------------------------------------------


def without_huge_pages():
    ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)


def standstills(broken, command, rounds=3):
    """Median downtime-us of saves or loads with 768 MiB in small pages, all zero."""
    took = []
    with Case(broken) as case:
        guest = case.start(memory='1G', preexec=without_huge_pages)
        for number in range(rounds):
            guest.vm.serial.send('b')
            guest.vm.serial.expect('FILLED')
            stats = guest.save(str(number))
            if command == 'load':
                stats = guest.load(str(number), lazy=False)
            took.append(stats['snapshot-stats']['downtime-us'])
            guest.delete(str(number))
    return statistics.median(took)


def shorter(command, broken):
    """The standstill with the measure and without it, compared in one run."""
    sound, without = standstills(None, command), standstills(broken, command)
    print(f'# {command}: {sound:.0f} us, without {broken}: {without:.0f} us', flush=True)
    assert without > 2 * sound, 'the measure makes no difference'


def test_ram_is_armed_in_pieces(_):
    """Where there are no huge pages, protecting RAM takes time in proportion to it."""
    shorter('save', 'arm-in-pieces')


def test_old_ram_is_freed_later(_):
    shorter('load', 'old-ram-aside')


def main():
    tap.run(sys.modules[__name__], None, needs_guest=False)


main()
