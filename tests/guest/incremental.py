#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Snapshots that share what has not changed: a guest that stamps RAM and disks judges each of
a chain of them, all of RAM is compared byte by byte from outside, and any of them may be
deleted, by Debian's qemu-img too, or the program killed in the middle.

usage: incremental.py KF-SYSTEM KF-IMG STAMP-GUEST ROUNDS
"""

import hashlib
import os
import random
import select
import shutil
import signal
import struct
import subprocess
import sys

from kfvm import QMPError
from rig import check_image, tags
from stamped import Stamped
import tap

BINARY, IMG, PAYLOAD, ROUNDS = sys.argv[1:4] + [int(sys.argv[4])]
KEPT = 4
RAM = 128 << 20


def stats(job):
    return job['snapshot-stats']


def check_tracking(guest):
    """A second save of RAM that was saved a moment ago, or the reason why nothing is shared."""
    guest.save('probe0')
    shared = stats(guest.save('probe1'))['shared-pages']
    guest.delete('probe0')
    guest.delete('probe1')
    if not shared:
        raise tap.Skip('RAM cannot be watched here')


def epoch_up_to(guest, epoch):
    """A snapshot's tag is the epoch that the guest had."""
    while guest.epoch < epoch:
        guest.raise_epoch()


def start(guest, *extra, **more):
    guest.make_images()
    guest.start(*extra, **more)
    guest.vm.serial.send('f')
    guest.raise_epoch()


def test_chain_under_load(guest):
    """Saves, loads and deletes in any order; compressed or not; guest running or not."""
    rng = random.Random(ROUNDS)
    start(guest)
    check_tracking(guest)
    guest.save('1')
    kept, count, shares = [1], 1, 0
    for _ in range(ROUNDS):
        epoch_up_to(guest, count + 1)
        count += 1
        done = stats(guest.save(str(count), compress=rng.random() < 0.2,
                                mode='stop' if rng.random() < 0.1 else 'live'))
        shares += done['shared-pages'] > 0
        kept.append(count)
        if rng.random() < 0.4:
            tag = rng.choice(kept)
            guest.load(str(tag), lazy=rng.random() < 0.8)
            guest.verify(tag)
        while len(kept) > KEPT:
            guest.delete(str(kept.pop(rng.randrange(len(kept)))))
    assert shares >= ROUNDS // 3, f'{shares} of {ROUNDS} saves shared something'
    rng.shuffle(kept)
    for tag in kept:
        guest.load(str(tag))
        guest.verify(tag)
    while len(kept) > 1:
        guest.delete(str(kept.pop()))
        guest.load(str(kept[0]))
        guest.verify(kept[0])
    assert guest.vm.quit() == 0
    guest.check()


def first_bytes():
    """What the payload's file puts at the start of RAM."""
    with open(PAYLOAD, 'rb') as elf:
        data = elf.read()
    table, size, count = *struct.unpack_from('<Q', data, 32), *struct.unpack_from('<HH', data, 54)
    for i in range(count):
        offset, _, paddr = struct.unpack_from('<QQQ', data, table + i * size + 8)
        if paddr == 0x80000000:
            return data[offset:offset + 256]
    raise AssertionError('the payload has nothing at the start of RAM')


def ram_of(process):
    """The guest's RAM, from the process that holds it: what begins with the payload."""
    wanted = first_bytes()
    with open(f'/proc/{process}/maps', encoding='ascii') as maps:
        areas = [line.split()[0].split('-') for line in maps if ' rw-p ' in line]
    try:
        with open(f'/proc/{process}/mem', 'rb', buffering=0) as mem:
            for first, last in ([int(end, 16) for end in area] for area in areas):
                if last - first > 128 * RAM:
                    continue  # what a sanitizer keeps
                for start in range(first + -first % (2 << 20), last, 2 << 20):
                    mem.seek(start)
                    if mem.read(len(wanted)) == wanted:
                        mem.seek(start)
                        data = b''
                        while len(data) < RAM:
                            data += mem.read(RAM - len(data))
                        return data
    except PermissionError as error:
        raise tap.Skip('the memory of another process cannot be read here') from error
    raise AssertionError('the RAM was not found')


def ram_in(image, tag):
    names = subprocess.run([IMG, 'vmstate', 'ls', image, tag, 'ram'], check=True,
                           capture_output=True, text=True).stdout.split()
    return subprocess.run([IMG, 'vmstate', 'cat', image, tag, f'ram/{names[0]}'], check=True,
                          capture_output=True).stdout


def test_all_of_ram(guest):
    """What each snapshot holds is what the process held at its instant."""
    start(guest)
    expected = {}
    for number in range(5):
        if number == 3:
            guest.load('n1')  # from here on the base is what was loaded
        guest.beats()
        guest.vm.qmp.cmd('stop')
        expected[f'n{number}'] = hashlib.sha256(ram_of(guest.vm.process.pid)).hexdigest()
        guest.save(f'n{number}')
        guest.vm.qmp.cmd('cont')
    for tag in ('n0', 'n4'):
        guest.delete(tag)
        del expected[tag]
    assert guest.vm.quit() == 0
    guest.check()
    for tag, digest in expected.items():
        assert hashlib.sha256(ram_in(guest.images[0], tag)).hexdigest() == digest, tag


def test_foreign_tools(guest):
    """Debian's qemu-img goes back to one of a chain, deletes another; the third one loads."""
    start(guest)
    for number in range(1, 4):
        epoch_up_to(guest, number)
        guest.save(str(number))
    assert guest.vm.quit() == 0
    for path in guest.images:
        for command in (['-a', '1'], ['-d', '2'], ['-a', '3'], ['-d', '1']):
            subprocess.run(['qemu-img', 'snapshot', *command, path], check=True)
            check_image(path)
    guest.launch('-loadvm', '3')
    guest.vm.serial.expect('hh', 60)
    guest.verify(3)
    # Nothing is known of what was there before: a full save, then one that shares.
    guest.raise_epoch()
    guest.save('4')
    guest.load('4')
    guest.verify(4)
    guest.delete('3')
    assert guest.vm.quit() == 0
    guest.check()


def test_killed(guest):
    """kill -9 while a save shares: leaks at most, the base loads, its files are whole."""
    start(guest)
    guest.save('1')
    assert guest.vm.quit() == 0
    for path in guest.images:
        shutil.copyfile(path, path + '.good')
    for number in range(max(ROUNDS // 2, 3)):
        for path in guest.images:
            shutil.copyfile(path + '.good', path)
        guest.launch('-loadvm', '1')
        guest.vm.serial.expect('hh', 60)
        guest.epoch = 1
        guest.raise_epoch()
        qmp = guest.vm.qmp
        done = set(tags(guest.images[0]))
        qmp.cmd('snapshot-save', job_id='k', tag='2', vmstate='d0', devices=['d0', 'd1'])
        if number % 2:
            qmp.wait_event('RESUME')
        select.select([], [], [], 0.003 * number)  # the moments differ
        guest.vm.kill(signal.SIGKILL)
        guest.check(leaks=True)
        both = set(tags(guest.images[0])) & set(tags(guest.images[1]))
        assert done <= both, both
        newest = 2 if '2' in both else 1
        guest.launch('-loadvm', str(newest))
        guest.vm.serial.expect('hh', 60)
        guest.verify(newest)
        if newest == 2:
            guest.load('1')
            guest.verify(1)
        guest.stop()


def test_switched_off(guest):
    start(guest, '-machine', 'virt,snapshot-tracking=off')
    guest.save('1')
    assert stats(guest.save('2'))['shared-pages'] == 0
    guest.load('1')
    assert stats(guest.save('3'))['shared-pages'] == 0
    guest.verify(1)
    try:
        guest.stop()
        guest.launch('-machine', 'virt,snapshot-tracking=maybe')
        guest.vm.qmp.cmd('query-status')
    except (QMPError, EOFError, RuntimeError, TimeoutError, AssertionError):
        pass
    else:
        raise AssertionError('a value that is none was taken')


def main():
    guest = Stamped(BINARY, PAYLOAD)
    try:
        tap.run(sys.modules[__name__], guest, needs_guest=False)
    finally:
        guest.close()


main()
