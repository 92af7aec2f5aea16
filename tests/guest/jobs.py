#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The snapshot jobs and commands as their users drive them: modes, compression, speed, turns,
statistics, HMP, hosts without userfaultfd.  The guest of bare.py; no Linux needed."""

import ctypes
import json
import os
import struct
import subprocess
import sys
import threading
import time

import bare
import tap
from kfvm import QMP, Serial
from rig import MIB, Rig, check_image, fails, fault, on, slow, tags

SYS_USERFAULTFD = {'x86_64': 323, 'aarch64': 282, 'riscv64': 282}
SYS_IOCTL = {'x86_64': 16, 'aarch64': 29, 'riscv64': 29}
USERFAULTFD_IOC_NEW = 0xaa00


def without_userfaultfd():
    """For the emulator's process: neither the system call nor /dev/userfaultfd can be used."""
    machine = os.uname().machine
    load_nr, jeq, ret = 0x20, 0x15, 0x06
    allow, refuse = 0x7fff0000, 0x00050001  # SECCOMP_RET_ALLOW; _ERRNO with EPERM
    code = [(load_nr, 0, 0, 0),  # seccomp_data.nr
            (jeq, 4, 0, SYS_USERFAULTFD[machine]),
            (jeq, 0, 2, SYS_IOCTL[machine]),
            (load_nr, 0, 0, 24),  # .args[1], low half
            (jeq, 1, 0, USERFAULTFD_IOC_NEW),
            (ret, 0, 0, allow),
            (ret, 0, 0, refuse)]
    text = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *c) for c in code))
    program = struct.pack('HxxxxxxP', len(code), ctypes.addressof(text))
    libc = ctypes.CDLL(None, use_errno=True)
    if (libc.prctl(38, 1, 0, 0, 0) or  # PR_SET_NO_NEW_PRIVS
            libc.prctl(22, 2, ctypes.c_char_p(program), 0, 0)):  # PR_SET_SECCOMP, filter
        raise OSError(ctypes.get_errno(), 'no seccomp filter')


def start_without_userfaultfd(rig, *extra):
    os.environ['KF_TEST_BINARY'] = rig.binary
    wrapper = [sys.executable, os.path.abspath(__file__), '--without-userfaultfd']
    binary, rig.binary = rig.binary, rig.path('wrapped')
    with open(rig.binary, 'w', encoding='utf-8') as file:
        file.write('#!/bin/sh\nexec ' + ' '.join(wrapper) + ' "$@"\n')
    os.chmod(rig.binary, 0o755)
    try:
        rig.start(*extra)
    finally:
        rig.binary = binary


def stats(job):
    return job['snapshot-stats']


def wait_for_no_jobs(qmp):
    while qmp.cmd('query-jobs'):
        time.sleep(0.01)


def polls(rig, seconds_of):
    """Runs seconds_of() while another session asks; returns the slowest answer, and how many
    there were, and the states seen."""
    other = QMP(rig.vm.qmp_paths[1])
    worst, seen, done = [0], [], threading.Event()

    def ask():
        while not done.is_set():
            start = time.monotonic()
            seen.append(other.cmd('query-status')['status'])
            worst[0] = max(worst[0], time.monotonic() - start)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        result = seconds_of()
    finally:
        done.set()
        thread.join()
        other.close()
    return worst[0], seen, result


def loads_back(rig, node, tag='t'):
    """Lazily and not: the guest finds its memory as it was."""
    for lazy in True, False:
        job = rig.vm.qmp.run_job('snapshot-load', f'load-{lazy}', tag=tag, lazy=lazy, **on(node))
        assert stats(job)['throughput'] > 0, job
        rig.unharmed()


# --- Modes -----------------------------------------------------------------------------------


def test_mode_stop(rig):
    """The guest stands still until all is written; the monitor answers meanwhile."""
    qmp = rig.running()
    path = rig.image('stop.qcow2')
    rig.add('disk', path, slow('write', 5))
    worst, seen, job = polls(rig, lambda: qmp.run_job('snapshot-save', 's', tag='t', mode='stop',
                                                      **on('disk')))
    assert stats(job)['mode'] == 'stop' and 'warning' not in stats(job), job
    assert stats(job)['downtime-us'] > 5000 and 'faults' not in stats(job), job
    assert 'save-vm' in seen, set(seen)
    assert worst < 1, f'{worst * 1000:.1f} ms'
    names = [e['event'] for e in qmp.events]
    assert names.count('STOP') == 1 and names[-1] == 'RESUME', names
    rig.unharmed()
    loads_back(rig, 'disk')
    rig.delete('disk')
    check_image(path)


def test_mode_stop_pause_and_cancel(rig):
    qmp = rig.running()
    path = rig.image('stop.qcow2')
    rig.add('disk', path, slow('write', 5))
    qmp.cmd('snapshot-save', job_id='s', tag='t', mode='stop', **on('disk'))
    qmp.wait_event('STOP')
    qmp.cmd('job-pause', id='s')
    qmp.wait_event('JOB_STATUS_CHANGE', match=lambda d: d['status'] == 'paused')
    assert qmp.cmd('query-status')['status'] == 'save-vm'
    qmp.cmd('job-cancel', id='s')
    qmp.job_states('s', 'concluded')
    qmp.cmd('job-dismiss', id='s')
    rig.unharmed()
    rig.delete('disk')
    check_image(path)
    assert tags(path) == []


def test_without_userfaultfd(rig):
    """Live becomes stop, lazy becomes eager, and the result says why."""
    path = rig.image('nouffd.qcow2')
    start_without_userfaultfd(rig, '-monitor', f'unix:{rig.path("hmp")},server=on,wait=off')
    qmp = rig.vm.qmp
    try:
        rig.add('disk', path, slow('write', 5))
        worst, seen, job = polls(
            rig, lambda: qmp.run_job('snapshot-save', 's', tag='t', mode='live', **on('disk')))
        s = stats(job)
        assert s['mode'] == 'stop', s
        assert s['warning'].startswith('The guest was stopped while it was saved: userfaultfd is '
                                       'not available (userfaultfd(): Operation not permitted'), s
        assert 'save-vm' in seen and worst < 1, (set(seen), worst)
        rig.unharmed()
        job = qmp.run_job('snapshot-load', 'l', tag='t', **on('disk'))
        s = stats(job)
        assert s['lazy'] is False and 'userfaultfd is not available' in s['warning'], s
        rig.unharmed()
        # HMP's user is told, too; one who asked for it is not.
        text = qmp.hmp('savevm again')
        assert text.startswith('warning: The guest was stopped while it was saved: '), text
        rig.unharmed()
        # Nor does one who does not wait for it miss it.
        hmp = Serial(rig.path('hmp'))
        for command in 'savevm', 'loadvm':
            hmp.send(f'{command} -d later\n')
            job = hmp.expect(": 'later' of ").split()[-3].rstrip(':')
            hmp.expect(f'{job}: warning: ')
            hmp.expect('userfaultfd is not available')
        hmp.send('loadvm -d later\n')
        hmp.expect('machine state in disk')
        hmp.close()  # who has gone is not told
        wait_for_no_jobs(qmp)
        rig.unharmed()
        job = qmp.run_job('snapshot-save', 's', tag='asked', mode='stop', **on('disk'))
        assert 'warning' not in stats(job), job
        rig.delete('disk')
    finally:
        rig.stop()
    check_image(path)
    assert sorted(tags(path)) == ['again', 'asked', 'later', 't']


def test_bounce_limit(rig):
    """A small limit makes the guest wait, and nothing else; what it is must make sense."""
    qmp = rig.running()
    path = rig.image('limit.qcow2')
    rig.add('disk', path, slow('write', 3, 4))
    for limit in 0, 4095, (64 << 30) + 1:
        fails(lambda: qmp.cmd('snapshot-save', job_id='s', tag='t', bounce_limit=limit,
                              **on('disk')), "'bounce-limit'")
    job = qmp.run_job('snapshot-save', 's', tag='t', bounce_limit=1 << 20, **on('disk'))
    assert 0 < stats(job)['bounce-peak'] <= 1 << 20, job
    rig.unharmed()
    loads_back(rig, 'disk')
    rig.delete('disk')
    check_image(path)


# --- Compression -------------------------------------------------------------------------------


def test_compress(rig):
    for options in '', 'compression_type=zstd', 'cluster_size=4k', 'cluster_size=2M':
        qmp = rig.running()
        path = rig.image('packed.qcow2', options=options)
        rig.add('disk', path)
        for i in range(3):
            job = qmp.run_job('snapshot-save', f's{i}', tag=f't{i}', compress=True, **on('disk'))
            s = stats(job)
            assert s['mode'] == 'live' and 'warning' not in s, s
            if options != 'cluster_size=2M' and not s.get('shared-pages'):
                assert s['compressed-bytes'] > MIB << 19, s
                assert s['compressed-size'] < s['compressed-bytes'] / 4, s
            rig.unharmed()
            check_image(path, leaks=True)  # some are given back when it is flushed again
        loads_back(rig, 'disk', 't0')
        loads_back(rig, 'disk', 't2')
        for i in range(3):
            qmp.run_job('snapshot-delete', f'd{i}', tag=f't{i}', devices=['disk'])
        rig.delete('disk')
        check_image(path)
        assert tags(path) == []


def test_compress_lazily_loaded(rig):
    """Pages come one by one out of compressed clusters when the guest needs them."""
    qmp = rig.running()
    path = rig.image('packed.qcow2')
    rig.add('disk', path)
    qmp.run_job('snapshot-save', 's', tag='t', compress=True, mode='stop', **on('disk'))
    rig.delete('disk')
    rig.add('disk', path, slow('read', 2, 30))
    qmp.cmd('snapshot-load', job_id='l', tag='t', **on('disk'))
    qmp.cmd('block-job-set-speed', device='l', speed=1 << 20)
    qmp.wait_event('RESUME')
    rig.unharmed()
    qmp.cmd('block-job-set-speed', device='l', speed=0)
    qmp.job_states('l', 'concluded')
    [job] = qmp.cmd('query-jobs')
    qmp.cmd('job-dismiss', id='l')
    assert stats(job)['lazy'] and 'warning' not in stats(job), job
    rig.unharmed()
    rig.delete('disk')
    check_image(path)


def test_compress_errors(rig):
    qmp = rig.running()
    path = rig.image('narrow.qcow2', options='refcount_bits=8')
    rig.add('disk', path)
    fails(lambda: qmp.run_job('snapshot-save', 's', tag='t', compress=True, **on('disk')),
          "Node 'disk': compressing the machine state: ", 'reference counts of 16 bits')
    rig.unharmed()
    rig.delete('disk')
    check_image(path)
    for after in range(0, 30, 3):
        path = rig.image('bad.qcow2')
        rig.add('disk', path, fault('write', after, 28))
        try:
            qmp.run_job('snapshot-save', 's', tag='t', compress=True, **on('disk'))
            ok = True
        except Exception as error:
            assert 'No space left on device' in str(error), error
            ok = False
        rig.unharmed()
        rig.delete('disk')
        check_image(path)
        assert tags(path) == (['t'] if ok else [])


# --- Speed ---------------------------------------------------------------------------------------


def test_speed(rig):
    """A limit holds for the job and not for the guest; it can be lifted on the way."""
    qmp = rig.running()
    path = rig.image('speed.qcow2')
    rig.add('disk', path)
    for command, args in ('snapshot-save', {}), ('snapshot-load', {}):
        qmp.cmd('snapshot-delete', job_id='x', tag='none', devices=['disk'])
        qmp.job_states('x', 'concluded')
        fails(lambda: qmp.cmd('block-job-set-speed', device='x', speed=1),
              "Job 'x' in state 'concluded' cannot accept command verb 'set-speed'")
        qmp.cmd('job-dismiss', id='x')
        qmp.events.clear()
        qmp.cmd(command, job_id='j', tag='t', **on('disk'), **args)
        qmp.cmd('block-job-set-speed', device='j', speed=64 << 10)
        fails(lambda: qmp.cmd('block-job-set-speed', device='j', speed=-1),
              "Parameter 'speed' expects a non-negative value")
        qmp.wait_event('RESUME')
        for _ in range(3):
            rig.unharmed()
        [job] = qmp.cmd('query-jobs')
        assert job['status'] == 'running', job
        assert job['current-progress'] < job['total-progress'], job
        assert qmp.hmp('block_job_set_speed j 0') == ''
        qmp.job_states('j', 'concluded')
        assert 'error' not in qmp.cmd('query-jobs')[0]
        qmp.cmd('job-dismiss', id='j')
        rig.unharmed()
    assert qmp.hmp('block_job_set_speed j 1M') == "Error: Block job 'j' not found\r\n"
    rig.delete('disk')
    check_image(path)


# --- Statistics and events ---------------------------------------------------------------------


def test_statistics(rig):
    """They are in the concluding event as in query-jobs, and there only."""
    qmp = rig.running()
    path = rig.image('stats.qcow2')
    rig.add('disk', path)
    for command, names in (
            ('snapshot-save', ('mode', 'downtime-us', 'total-time-us', 'bytes-written',
                               'throughput', 'zero-pages', 'faults', 'bounce-peak')),
            ('snapshot-load', ('lazy', 'downtime-us', 'total-time-us', 'bytes-read',
                               'throughput', 'zero-pages', 'faults', 'max-fault-us'))):
        qmp.cmd(command, job_id='j', tag='t', **on('disk'))
        event = None
        while not event:
            e = qmp.wait_event('JOB_STATUS_CHANGE')['data']
            assert ('snapshot-stats' in e) == (e['status'] == 'concluded'), e
            event = e if e['status'] == 'concluded' else None
        [job] = qmp.cmd('query-jobs')
        assert stats(job) == stats(event), (job, event)
        for name in names:
            assert name in stats(job), f'{name} is missing: {job}'
        assert job['current-progress'] == job['total-progress'] >= 32 << 20, job
        qmp.cmd('job-dismiss', id='j')
    qmp.run_job('snapshot-delete', 'd', tag='t', devices=['disk'])
    rig.unharmed()
    rig.delete('disk')
    check_image(path)


# --- Turns ---------------------------------------------------------------------------------------


def test_turns(rig):
    """First come, first served; who waits says for whom, and can be cancelled."""
    qmp = rig.running()
    path = rig.image('turns.qcow2')
    rig.add('disk', path, slow('write', 10))
    pauses = lambda job: lambda d: (d['id'], d['status']) == (job, 'paused')
    qmp.events.clear()
    qmp.cmd('snapshot-save', job_id='a', tag='a', **on('disk'))
    qmp.wait_event('RESUME')  # it has its turn
    qmp.cmd('job-pause', id='a')
    qmp.wait_event('JOB_STATUS_CHANGE', match=pauses('a'))
    for job in 'bcd':
        qmp.cmd('snapshot-save', job_id=job, tag=job, **on('disk'))
    # A job that has just been made may not have come as far as to wait.
    while len([j for j in qmp.cmd('query-jobs') if 'waits-for' in j]) < 3:
        pass
    for job in qmp.cmd('query-jobs'):
        waits = job['id'] != 'a'
        assert job['status'] == ('created' if waits else 'paused'), job
        assert job.get('waits-for') == ("snapshot-save 'a'" if waits else None), job
    text = qmp.hmp('info jobs')
    assert "waits for snapshot-save 'a'" in text, text
    qmp.cmd('job-cancel', id='c')
    assert qmp.job_states('c', 'concluded')[-2:] == ['aborting', 'concluded']
    qmp.cmd('job-pause', id='b')  # it pauses when it has its turn
    qmp.cmd('job-resume', id='a')
    qmp.wait_event('JOB_STATUS_CHANGE', match=pauses('b'))
    rig.unharmed()
    [d] = [j for j in qmp.cmd('query-jobs') if j['id'] == 'd']
    assert d['waits-for'] == "snapshot-save 'b'", d
    qmp.cmd('job-resume', id='b')
    qmp.job_states('d', 'concluded')
    for job in qmp.cmd('query-jobs'):
        assert ('error' in job) == (job['id'] == 'c'), job
        qmp.cmd('job-dismiss', id=job['id'])
    rig.unharmed()
    rig.delete('disk')
    check_image(path)
    assert tags(path) == ['a', 'b', 'd']


def test_cancel_at_once(rig):
    """It may not have begun yet; it ends, and though nobody dismisses it the node is free."""
    qmp = rig.running()
    path = rig.image('once.qcow2')
    for command in ('snapshot-save', 'snapshot-delete') * 8:
        rig.add('disk', path, slow('write', 2))
        job = f'{command}-{len(qmp.cmd("query-jobs"))}'
        arguments = {'job-id': job, 'tag': 't', 'devices': ['disk']}
        if command == 'snapshot-save':
            arguments['vmstate'] = 'disk'
        qmp.sock.sendall(json.dumps({'execute': command, 'arguments': arguments}).encode() +
                         json.dumps({'execute': 'job-cancel', 'arguments': {'id': job}}).encode())
        assert qmp.reply() == {'return': {}}
        qmp.reply()  # a delete of what is not there may be over
        qmp.job_states(job, 'concluded')
        rig.delete('disk')
    rig.unharmed()
    for info in qmp.cmd('query-jobs'):
        qmp.cmd('job-dismiss', id=info['id'])
    check_image(path)


def test_reset_waits_for_a_load(rig):
    """system_reset is answered at once and done when the load is over; several are one."""
    qmp = rig.running()
    path = rig.image('reset.qcow2')
    rig.add('disk', path)
    qmp.run_job('snapshot-save', 's', tag='t', **on('disk'))
    qmp.events.clear()
    qmp.cmd('snapshot-load', job_id='l', tag='t', **on('disk'))
    qmp.cmd('block-job-set-speed', device='l', speed=64 << 10)
    qmp.wait_event('RESUME')
    for _ in range(3):
        qmp.cmd('system_reset')
    rig.unharmed()
    assert not [e for e in qmp.events if e['event'] == 'RESET'], qmp.events
    rig.vm.serial.drain()
    qmp.cmd('block-job-set-speed', device='l', speed=0)
    qmp.wait_event('RESET')
    rig.vm.serial.expect('Rhh', 20)
    qmp.job_states('l', 'concluded')
    qmp.cmd('job-dismiss', id='l')
    qmp.cmd('system_reset')  # nobody to wait for
    assert [e['event'] for e in qmp.events].count('RESET') == 1, qmp.events
    rig.vm.serial.expect('Rhh', 20)
    # An end while one waits is in order.
    qmp.events.clear()
    qmp.cmd('snapshot-load', job_id='l', tag='t', **on('disk'))
    qmp.cmd('block-job-set-speed', device='l', speed=64 << 10)
    qmp.wait_event('RESUME')
    qmp.cmd('system_reset')
    assert rig.vm.quit(20) == 0
    check_image(path)
    assert tags(path) == ['t']


# --- HMP -----------------------------------------------------------------------------------------


def test_savevm_that_fails_keeps_the_old_one(rig):
    """Whatever fails, there is one snapshot of that name, and it loads."""
    failed = 0
    for after in range(0, 60, 2):
        rig.running()
        path = rig.image('keep.qcow2')
        rig.add('disk', path)
        assert rig.vm.qmp.hmp('savevm keep') == ''
        rig.delete('disk')
        rig.add('disk', path, fault('write', after, 28))
        text = rig.vm.qmp.hmp('savevm keep')
        rig.unharmed()
        rig.delete('disk')
        check_image(path)
        there = tags(path)
        assert there == ['keep'] or (there == ['keep', 'keep'] and 'is still there' in text), text
        rig.add('disk', path)
        if text:
            failed += 1
            assert 'No space left on device' in text, text
            assert rig.vm.qmp.hmp('loadvm keep') == '', text
            rig.unharmed()
        rig.delete('disk')
    assert failed > 5, failed


def test_hmp_detached(rig):
    qmp = rig.running()
    path = rig.image('hmp.qcow2')
    rig.add('disk', path)
    text = qmp.hmp('savevm -d one')
    assert text == "savevm0: 'one' of disk, machine state in disk\r\n", text
    qmp.job_states('savevm0')
    assert qmp.hmp('info jobs') == 'No active jobs\r\n'
    text = qmp.hmp('info snapshots')
    assert text.startswith('List of snapshots present on all disks:\r\n') and ' one ' in text, text
    text = qmp.hmp('loadvm -d one')
    assert text == "loadvm1: 'one' of disk, machine state in disk\r\n", text
    qmp.job_states('loadvm1')
    assert qmp.hmp('loadvm two') == ("Error: Snapshot 'two' does not exist in one or more "
                                     'devices\r\n')
    assert qmp.hmp('savevm') == ''  # it makes up a name
    [made_up] = [t for t in tags(path) if t != 'one']
    assert made_up.startswith('vm-20'), made_up
    for tag in 'one', made_up, 'not there':
        assert qmp.hmp(f'delvm "{tag}"') == ''
    assert qmp.hmp('info snapshots') == 'There is no snapshot available.\r\n'
    rig.unharmed()
    rig.delete('disk')
    check_image(path)


# --- The command line ------------------------------------------------------------------------


def test_snapshot_option(rig):
    """-snapshot: the image stays as it is, although the guest's machine can be saved."""
    path = rig.image('base.qcow2')
    before = open(path, 'rb').read()
    temp = rig.path('tmp')
    os.makedirs(temp, exist_ok=True)
    os.environ['TMPDIR'] = temp
    try:
        drive = ['-drive', f'if=none,id=d,file={path},format=qcow2']
        for args, overlays in ((['-snapshot', *drive], True),
                               ([*drive[:1], drive[1] + ',snapshot=on'], True),
                               (['-snapshot', *drive[:1], drive[1] + ',snapshot=off'], False)):
            rig.start(*args)
            qmp = rig.vm.qmp
            [block] = [b for b in qmp.cmd('query-block') if b['device'] == 'd']
            assert os.listdir(temp) == [], 'the overlay has a name'
            inserted = block['inserted']
            assert inserted['backing_file_depth'] == overlays, inserted
            assert not inserted['ro'], inserted
            assert qmp.hmp('savevm here') == ''
            assert ' here ' in qmp.hmp('info snapshots')
            assert qmp.hmp('loadvm here') == ''
            rig.unharmed()
            assert rig.vm.quit() == 0
            assert (open(path, 'rb').read() == before) == overlays, args
        os.environ['TMPDIR'] = rig.path('missing')
        result = subprocess.run([rig.binary, '-M', 'virt', '-display', 'none', '-snapshot',
                                 *drive], capture_output=True, text=True, timeout=60, check=False)
        assert result.returncode == 1, result
        assert "Could not open temporary file '" + rig.path('missing') in result.stderr, result
    finally:
        del os.environ['TMPDIR']
        rig.stop()
    check_image(path)


def test_loadvm_option(rig):
    """-loadvm: the guest goes on from the snapshot; a name that is not there ends the start."""
    path = rig.image('start.qcow2')
    rig.running()
    rig.add('disk', path)
    rig.vm.qmp.run_job('snapshot-save', 's', tag='t', compress=True, **on('disk'))
    drive = ['-drive', f'if=none,id=disk,file={path},format=qcow2']
    rig.start(*drive, '-loadvm', 't')
    assert b'R' not in rig.vm.serial.log, 'the guest began anew'
    rig.unharmed()
    rig.start('-S', *drive, '-loadvm', 't')
    assert rig.vm.qmp.cmd('query-status')['running'] is False
    rig.vm.qmp.cmd('cont')
    rig.vm.serial.expect('hh')
    assert b'R' not in rig.vm.serial.log
    rig.stop()
    result = subprocess.run([rig.binary, '-M', 'virt', '-m', '32M', '-display', 'none', '-bios',
                             rig.payload, *drive, '-loadvm', 'none'], capture_output=True,
                            text=True, timeout=60, check=False)
    assert result.returncode == 1 and "Snapshot 'none' does not exist" in result.stderr, result


def main():
    if sys.argv[1] == '--without-userfaultfd':
        without_userfaultfd()
        os.execv(os.environ['KF_TEST_BINARY'], [os.environ['KF_TEST_BINARY'], *sys.argv[2:]])
    rig = Rig(os.path.abspath(sys.argv[1]))
    try:
        tap.run(sys.modules[__name__], rig, needs_guest=False)
    finally:
        rig.stop()
        rig.dir.cleanup()


main()
