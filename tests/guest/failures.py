#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Snapshots on disks that are full, broken or slow, and with arguments that are wrong: the
error says why, the guest and the image come to no harm.

A guest of a few instructions (bare.py) runs and checks its own memory; the disks are nodes
that each test adds, with blkdebug below them where they shall misbehave.

usage: failures.py KF-SYSTEM [every]
every: an error at every request of a job, not only at some.
"""

import os
import signal
import subprocess
import sys
import time

import bare
from kfvm import QMPError
from rig import MIB, Rig, check_image, fails, fault, on, saved_by, slow, tags, wait_status
import tap


EVERY = sys.argv[2:] == ['every']

# --- No space and broken disks ------------------------------------------------------------


def test_no_space(rig):
    """A real file system that is too small; a later, smaller save fits."""
    mount = rig.path('small')
    os.mkdir(mount)
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=12m', 'tmpfs', mount],
                      capture_output=True).returncode:
        raise tap.Skip('no permission to mount a tmpfs')
    try:
        qmp = rig.running()
        path = rig.image('small/disk.qcow2')
        rig.add('small', path)
        for i in range(3):
            fails(lambda: qmp.run_job('snapshot-save', 'full', tag='full', **on('small')),
                  'No space left on device')
            assert 'STOP' not in [e['event'] for e in qmp.events]
            rig.unharmed()
        free = os.statvfs(mount)
        assert free.f_bavail * free.f_bsize > 10 << 20, 'what was written is still there'
        check_image(path)
        rig.delete('small')
        bare.write(rig.payload, 1)
        rig.start()
        rig.add('small', path)
        rig.vm.qmp.run_job('snapshot-save', 'fits', tag='fits', **on('small'))
        rig.delete('small')
        check_image(path)
        assert tags(path) == ['fits']
    finally:
        bare.write(rig.payload, MIB)
        rig.stop()
        subprocess.run(['umount', mount], check=True)


def each_fault(rig, command, kind, number, text, setup=lambda path: None, **args):
    """The command with an error at the first, second, third... request until it passes."""
    qmp = rig.running()
    failed = 0
    after = 0
    while True:
        path = rig.image('faulty.qcow2')
        setup(path)
        try:
            rig.add('faulty', path, fault(kind, after, number))
        except QMPError:  # it met the error when it was opened
            failed += 1
            after += 1
            continue
        job = f'{command}-{kind}-{after}'
        devices = {'devices': ['faulty']} if command == 'snapshot-delete' else on('faulty')
        passed = True
        try:
            qmp.run_job(command, job, tag='t', **devices, **args)
        except QMPError as error:
            passed = False
            assert text in error.desc, error.desc
        rig.unharmed()
        rig.delete('faulty')
        check_image(path)
        there = tags(path)
        if kind == 'flush' and not passed:
            assert there in ([], ['t'])  # of the last one nobody knows what it achieved
        elif command == 'snapshot-save':
            assert there == (['t'] if passed else []), (there, passed, after)
        elif command == 'snapshot-load':
            assert there == ['t']
        if passed:
            break
        failed += 1
        after += 1 if EVERY else 1 + after // 8  # else the first ones, then ever fewer
    assert failed > 1, f'{failed} of {kind} failed'


def test_save_each_write_fails(rig):
    each_fault(rig, 'snapshot-save', 'write', 5, 'Input/output error')


def test_save_each_write_has_no_space(rig):
    each_fault(rig, 'snapshot-save', 'write', 28, 'No space left on device')


def test_save_each_flush_fails(rig):
    each_fault(rig, 'snapshot-save', 'flush', 5, 'Input/output error')


def test_load_each_read_fails(rig):
    rig.running()
    each_fault(rig, 'snapshot-load', 'read', 5, 'Input/output error', saved_by(rig), lazy=False)


def test_load_each_write_fails(rig):
    rig.running()
    each_fault(rig, 'snapshot-load', 'write', 28, 'No space left on device', saved_by(rig),
               lazy=False)


def test_delete_each_write_fails(rig):
    rig.running()
    each_fault(rig, 'snapshot-delete', 'write', 5, 'Input/output error', saved_by(rig))


def test_disk_that_stays_broken(rig):
    """Nothing can be undone on it: the error comes, the guest runs, leaks at most."""
    qmp = rig.running()
    for after in (0, 3, 9, 20):
        path = rig.image('broken.qcow2')
        rig.add('broken', path, fault('write', after, once=False))
        fails(lambda: qmp.run_job('snapshot-save', 'b', tag='t', **on('broken')),
              'Input/output error')
        rig.unharmed()
        rig.delete('broken')
        check_image(path, leaks=True)
        assert tags(path) == []


def test_second_disk_fails(rig):
    """The snapshot is on both disks or on none."""
    qmp = rig.running()
    for after in range(0, 12, 2):
        good, bad = rig.image('good.qcow2'), rig.image('bad.qcow2')
        rig.add('good', good)
        rig.add('bad', bad, fault('write', after))
        try:
            qmp.run_job('snapshot-save', f'two{after}', tag='t', **on('good', 'bad'))
            want = ['t']
        except QMPError as error:
            assert 'Input/output error' in error.desc, error.desc
            want = []
        rig.unharmed()
        rig.delete('good')
        rig.delete('bad')
        for path in good, bad:
            check_image(path)
            assert tags(path) == want, (path, tags(path), want, after)


def load_that_stops(rig, path, once):
    """Lazy loads, with errors ever later, until one meets them when the guest runs already:
    the guest stops.  Returns how many loads failed before.

    once: some reads in a row fail, then all is well.  One would not do: it may be a page with
    its surroundings, after which the page is read alone."""
    for i, after in enumerate(range(4, 160, 5)):
        qmp = rig.running()
        try:
            rig.add('lazy', path, *[fault('read', after, once=once)] * (4 if once else 1))
        except QMPError as error:
            assert 'Input/output error' in error.desc, error.desc
            continue
        try:
            qmp.cmd('snapshot-load', job_id='lazy', tag='t', **on('lazy'))
        except QMPError as error:
            assert 'Input/output error' in error.desc, error.desc
            rig.delete('lazy')
            continue
        state = None
        while state != 'concluded':
            message = qmp.events.pop(0) if qmp.events else qmp.read()
            if message.get('event') == 'JOB_STATUS_CHANGE':
                state = message['data']['status']
            if qmp.cmd('query-status')['status'] == 'io-error':
                return i
        job = qmp.cmd('query-jobs')[0]
        qmp.cmd('job-dismiss', id='lazy')
        if 'error' in job:
            assert 'Input/output error' in job['error'], job
        else:
            assert once, 'no error met the lazy fill'
        rig.unharmed()
        rig.delete('lazy')
    raise AssertionError('no error met the lazy fill')


def test_lazy_fill_retries(rig):
    """A read error before the switch fails the load, one after it stops the guest; cont
    goes on when the disk does, which may take another."""
    rig.running()
    path = rig.image('lazy.qcow2')
    saved_by(rig)(path)
    assert load_that_stops(rig, path, True) > 2, 'no load failed'
    qmp = rig.vm.qmp
    qmp.events.clear()
    qmp.cmd('cont')
    status = None
    while status != 'concluded':
        message = qmp.events.pop(0) if qmp.events else qmp.read()
        if message.get('event') == 'STOP':
            qmp.cmd('cont')
        elif message.get('event') == 'JOB_STATUS_CHANGE':
            status = message['data']['status']
    job = qmp.cmd('query-jobs')[0]
    assert 'error' not in job, job
    qmp.cmd('job-dismiss', id='lazy')
    rig.unharmed()
    assert 'Could not read page' in rig.vm.errors(), rig.vm.errors()
    rig.delete('lazy')
    check_image(path)


def test_lazy_fill_stays_broken(rig):
    """Each cont tries again, and stops again: the cause is told once for each."""
    rig.running()
    path = rig.image('lazy.qcow2')
    saved_by(rig)(path)
    load_that_stops(rig, path, False)
    qmp = rig.vm.qmp
    before = rig.vm.errors().count('Could not read page')
    for i in range(3):
        wait_status(qmp, 'io-error')
        assert rig.vm.errors().count('Could not read page') == before + i, rig.vm.errors()
        assert qmp.cmd('query-jobs')[0]['status'] == 'running'
        qmp.events.clear()
        qmp.cmd('cont')
        qmp.wait_event('STOP')
    assert rig.vm.quit() == 0
    check_image(path)


# --- Slow disks -----------------------------------------------------------------------------


def slow_node(rig, kind, milliseconds, saved=False, after=0):
    path = rig.image('slow.qcow2')
    if saved:
        saved_by(rig)(path)
    rig.add('slow', path, slow(kind, milliseconds, after))
    return path


def polls(rig, job):
    """Asks on another session until the job is over; the slowest answer, in seconds."""
    other = rig.vm.session(1)
    worst = 0
    while True:
        start = time.monotonic()
        jobs = [j for j in other.cmd('query-jobs') if j['id'] == job]
        worst = max(worst, time.monotonic() - start)
        if not jobs or jobs[0]['status'] == 'concluded':
            break
    other.close()
    return worst, jobs[0]


def test_slow_disk_and_the_monitor(rig):
    """No answer waits for a request of the slow disk."""
    for command, kind, args in (('snapshot-save', 'write', on('slow')),
                                ('snapshot-load', 'read', on('slow')),
                                ('snapshot-delete', 'write', {'devices': ['slow']})):
        qmp = rig.running()
        path = rig.image('slow.qcow2')
        if command != 'snapshot-save':
            saved_by(rig)(path)
        rig.add('slow', path, *[{**slow(kind, 500, after), 'once': True} for after in (1, 4)])
        qmp.cmd(command, job_id='slow', tag='t', **args)
        worst, job = polls(rig, 'slow')
        assert 'error' not in job, job
        assert worst < 0.25, f'{command}: {worst * 1000:.1f} ms'
        qmp.cmd('job-dismiss', id='slow')
        rig.unharmed()
        rig.delete('slow')
        check_image(path)


def test_cancel_at_each_phase(rig):
    """A cancel is heard until the snapshot exists; then it comes too late, and says nothing."""
    cancelled = 0
    for wait in range(0, 200, 20):
        qmp = rig.running()
        path = slow_node(rig, 'write', 10)
        qmp.cmd('snapshot-save', job_id='c', tag='t', **on('slow'))
        time.sleep(wait / 1000)  # the phase that is met differs
        fails_late = None
        try:
            qmp.cmd('job-cancel', id='c')
        except QMPError as error:
            fails_late = error.desc
        qmp.wait_event('JOB_STATUS_CHANGE',
                       match=lambda d: (d['id'], d['status']) == ('c', 'concluded'))
        job = qmp.cmd('query-jobs')[0]
        qmp.cmd('job-dismiss', id='c')
        rig.unharmed()
        rig.delete('slow')
        check_image(path)
        if 'error' in job:
            cancelled += 1
            assert fails_late is None and 'cancel' in job['error'], (fails_late, job)
        assert tags(path) == ([] if 'error' in job else ['t'])
    assert cancelled >= 3, cancelled


def test_pause_and_resume(rig):
    for command, kind in (('snapshot-save', 'write'), ('snapshot-load', 'read')):
        qmp = rig.running()
        path = slow_node(rig, kind, 10, saved=command == 'snapshot-load', after=4)
        qmp.events.clear()  # making the image stopped the guest, too
        qmp.cmd(command, job_id='p', tag='t', **on('slow'))
        qmp.wait_event('RESUME')
        qmp.cmd('job-pause', id='p')
        qmp.wait_event('JOB_STATUS_CHANGE', match=lambda d: d['status'] == 'paused')
        for _ in range(5):
            rig.unharmed()
            job = qmp.cmd('query-jobs')[0]
            assert job['status'] == 'paused', job
            assert job['current-progress'] < job['total-progress'], job
        qmp.cmd('job-resume', id='p')
        qmp.job_states('p', 'concluded')
        assert 'error' not in qmp.cmd('query-jobs')[0]
        qmp.cmd('job-dismiss', id='p')
        rig.unharmed()
        rig.delete('slow')
        check_image(path)
        assert tags(path) == ['t']


def test_end_in_the_middle(rig):
    """quit and SIGTERM during a save and a load: an orderly end, a sound image."""
    for command, kind in (('snapshot-save', 'write'), ('snapshot-load', 'read')):
        for how in ('quit', signal.SIGTERM):
            for event in (None, 'RESUME'):
                qmp = rig.running()
                path = slow_node(rig, kind, 40, saved=command == 'snapshot-load', after=4)
                qmp.cmd(command, job_id='e', tag='t', **on('slow'))
                if event:
                    qmp.wait_event(event)
                start = time.monotonic()
                status = rig.vm.quit(20) if how == 'quit' else rig.vm.kill(how)
                took = time.monotonic() - start
                assert status == 0, (command, how, status)
                assert took < 5, f'{command}, {how}: {took:.1f} s to the end'
                check_image(path)
                assert command == 'snapshot-load' or tags(path) in ([], ['t'])


def test_end_while_a_lazy_load_cannot_read(rig):
    rig.running()
    path = rig.image('stuck.qcow2')
    saved_by(rig)(path)
    for how in ('quit', signal.SIGTERM):
        try:
            load_that_stops(rig, path, False)
        finally:
            status = rig.vm.quit(20) if how == 'quit' else rig.vm.kill(how)
        assert status == 0, status
        check_image(path)


def test_reset_during_save_and_load(rig):
    for command, kind in (('snapshot-save', 'write'), ('snapshot-load', 'read')):
        qmp = rig.running()
        path = slow_node(rig, kind, 10, saved=command == 'snapshot-load', after=4)
        qmp.cmd(command, job_id='r', tag='t', **on('slow'))
        qmp.wait_event('RESUME')
        rig.vm.serial.drain()
        qmp.cmd('system_reset')
        qmp.wait_event('RESET')
        rig.vm.serial.expect('Rhh', 20)
        qmp.job_states('r', 'concluded')
        assert 'error' not in qmp.cmd('query-jobs')[0]
        qmp.cmd('job-dismiss', id='r')
        rig.unharmed()
        rig.delete('slow')
        check_image(path)
        assert tags(path) == ['t']


def test_stop_and_cont_during_save_and_load(rig):
    for command, kind in (('snapshot-save', 'write'), ('snapshot-load', 'read')):
        qmp = rig.running()
        path = slow_node(rig, kind, 10, saved=command == 'snapshot-load', after=4)
        qmp.cmd(command, job_id='s', tag='t', **on('slow'))
        for _ in range(5):
            qmp.cmd('stop')
            status = qmp.cmd('query-status')
            assert status['running'] is False, status
            qmp.cmd('cont')
        qmp.job_states('s', 'concluded')
        assert 'error' not in qmp.cmd('query-jobs')[0]
        qmp.cmd('job-dismiss', id='s')
        rig.unharmed()
        rig.delete('slow')
        check_image(path)


def test_save_before_the_first_instruction(rig):
    rig.start('-S')
    qmp = rig.vm.qmp
    path = rig.image('early.qcow2')
    rig.add('early', path)
    qmp.run_job('snapshot-save', 's', tag='t', **on('early'))
    assert qmp.cmd('query-status')['status'] == 'prelaunch'
    qmp.cmd('cont')
    rig.vm.serial.expect('Rhh')
    qmp.cmd('stop')
    qmp.run_job('snapshot-save', 's2', tag='paused', **on('early'))
    assert qmp.cmd('query-status')['status'] == 'paused'
    qmp.run_job('snapshot-load', 'l', tag='t', **on('early'))
    assert qmp.cmd('query-status')['running'] is False
    rig.vm.serial.drain()
    qmp.cmd('cont')
    rig.vm.serial.expect('Rhh')
    qmp.run_job('snapshot-load', 'l2', tag='paused', **on('early'))
    rig.unharmed()
    for i in range(2):
        qmp.run_job('snapshot-load', f'again{i}', tag='paused', **on('early'))
    rig.unharmed()
    rig.delete('early')
    check_image(path)


def test_jobs_wait_for_each_other(rig):
    """Load during a save, delete of what is being loaded, a node that goes: each waits."""
    qmp = rig.running()
    path = slow_node(rig, 'write', 5)
    qmp.run_job('snapshot-save', 'first', tag='first', **on('slow'))
    qmp.cmd('snapshot-save', job_id='a', tag='second', **on('slow'))
    qmp.cmd('snapshot-load', job_id='b', tag='first', **on('slow'))
    qmp.cmd('snapshot-delete', job_id='c', tag='first', devices=['slow'])
    qmp.cmd('snapshot-save', job_id='d', tag='late', **on('slow'))
    qmp.cmd('job-cancel', id='d')  # while it waits
    fails(lambda: qmp.cmd('blockdev-del', node_name='slow'), 'slow')
    ended = []
    while len(ended) < 4:
        event = qmp.wait_event('JOB_STATUS_CHANGE', match=lambda d: d['status'] == 'concluded')
        ended.append(event['data']['id'])
    assert [j for j in ended if j != 'd'] == ['a', 'b', 'c'], ended
    for job in qmp.cmd('query-jobs'):
        assert ('error' in job) == (job['id'] == 'd'), job
        qmp.cmd('job-dismiss', id=job['id'])
    rig.unharmed()
    rig.delete('slow')
    check_image(path)
    assert tags(path) == ['second']


def main():
    rig = Rig(sys.argv[1])
    try:
        tap.run(sys.modules[__name__], rig, needs_guest=False)
    finally:
        rig.stop()
        rig.dir.cleanup()


main()
