#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Loads that are cancelled, waited for, and robbed of their image in the middle.

usage: loading.py KF-SYSTEM
"""

import json
import os
import select
import subprocess
import sys
import time

from kfvm import QMPError
from rig import Rig, check_image, on, saved_by, slow, tags, wait_status
import tap


def slow_image(rig, name, milliseconds, after=0):
    """A node with snapshot 't' whose reads take long from the after'th on."""
    rig.running()
    path = rig.image(name)
    saved_by(rig)(path)
    rig.add('slow', path, slow('read', milliseconds, after))
    rig.vm.qmp.events.clear()
    return path


def concluded(qmp, job):
    qmp.job_states(job, 'concluded')
    info = [j for j in qmp.cmd('query-jobs') if j['id'] == job][0]
    qmp.cmd('job-dismiss', id=job)
    return info


def test_cancel_at_each_step(rig):
    """Until the switch a cancelled load has not happened; then it is too late and no error."""
    for lazy in (True, False):
        outcomes = set()
        wait, path = 0, slow_image(rig, 'cancel.qcow2', 2)
        while True:
            qmp = rig.vm.qmp
            qmp.events.clear()
            qmp.cmd('snapshot-load', job_id='c', tag='t', lazy=lazy, **on('slow'))
            time.sleep(wait / 1000)  # the step that is met differs
            switched = 'RESUME' in [e['event'] for e in qmp.events]
            try:
                qmp.cmd('job-cancel', id='c')
            except QMPError as error:
                assert 'cannot accept command verb' in error.desc, error.desc
            job = concluded(qmp, 'c')
            switched = switched or 'RESUME' in [e['event'] for e in qmp.events]
            if 'error' in job:
                assert 'cancel' in job['error'], job
            else:
                assert switched, job
            outcomes.add('error' in job)
            rig.unharmed()
            if 'error' not in job:
                break
            wait += 7
        assert outcomes == {True, False}, (lazy, outcomes)
        rig.delete('slow')
        check_image(path)
        assert tags(path) == ['t']


def test_delete_waits_for_the_fill(rig):
    path = slow_image(rig, 'pinned.qcow2', 15, after=40)
    qmp = rig.vm.qmp
    qmp.cmd('snapshot-load', job_id='load', tag='t', **on('slow'))
    qmp.wait_event('RESUME')
    qmp.cmd('snapshot-delete', job_id='del', tag='t', devices=['slow'])
    jobs = {j['id']: j for j in qmp.cmd('query-jobs')}
    load = jobs['load']
    assert load['status'] == 'running' and load['current-progress'] < load['total-progress'], jobs
    assert jobs['del']['status'] == 'created', jobs
    job = concluded(qmp, 'load')
    assert 'error' not in job and job['current-progress'] == job['total-progress'], job
    assert 'error' not in concluded(qmp, 'del')
    rig.unharmed()
    rig.delete('slow')
    check_image(path)
    assert tags(path) == []


def test_save_during_the_fill(rig):
    """It waits, says for whom, and is right."""
    path = slow_image(rig, 'both.qcow2', 15, after=40)
    qmp = rig.vm.qmp
    qmp.cmd('snapshot-load', job_id='load', tag='t', **on('slow'))
    qmp.wait_event('RESUME')
    qmp.cmd('snapshot-save', job_id='save', tag='u', **on('slow'))
    waits = {j['id']: j.get('waits-for') for j in qmp.cmd('query-jobs')}
    assert 'load' in (waits['save'] or 'load'), waits
    assert 'error' not in concluded(qmp, 'load')
    assert 'error' not in concluded(qmp, 'save')
    rig.unharmed()
    for tag in 'u', 't', 'u':
        qmp.run_job('snapshot-load', f'again-{tag}', tag=tag, **on('slow'))
        rig.unharmed()
    rig.delete('slow')
    check_image(path)


def test_image_cut_off_in_the_middle(rig):
    """What is missing is an error, not zeros; with the file as it was the guest goes on."""
    path = slow_image(rig, 'cut.qcow2', 200, after=75)
    with open(path, 'rb') as f:
        content = f.read()
    qmp = rig.vm.qmp
    qmp.cmd('snapshot-load', job_id='cut', tag='t', **on('slow'))
    qmp.wait_event('RESUME')
    os.truncate(path, 1 << 20)
    qmp.events.clear()
    wait_status(qmp, 'io-error')
    assert "of RAM block 'riscv_virt_board.ram' from the snapshot: Input/output error" in \
        rig.vm.errors(), rig.vm.errors()
    with open(path, 'r+b') as f:
        f.write(content)
    qmp.cmd('cont')
    assert 'error' not in concluded(qmp, 'cut')
    rig.unharmed()
    # The image itself is not looked at: its metadata is of before the load again.
    rig.stop()


def test_damaged_devices_are_refused(rig):
    """One bit of a register, or of the bitmap: the load fails, and the guest has not noticed."""
    qmp = rig.running()
    path = rig.image('bit.qcow2')
    saved_by(rig)(path)
    with open(path, 'rb') as f:
        content = f.read()
    device = content.rindex(b'\3cpu', 0, content.index(b'{"checksum":"sha256:'))
    bitmap = content.index(b'riscv_virt_board.ram', content.index(b'QEVM')) + 20 + 36
    for at in (device + 4 + 8 + 2, bitmap, bitmap + 100):
        damaged = bytearray(content)
        damaged[at] ^= 4
        with open(path, 'wb') as f:
            f.write(damaged)
        rig.add('bit', path)
        qmp.events.clear()
        qmp.cmd('snapshot-load', job_id='bit', tag='t', **on('bit'))
        assert concluded(qmp, 'bit')['error'] == \
            'Machine state is damaged: the checksum over devices and page bitmaps is not the ' \
            'one that was saved with them'
        assert 'STOP' not in [e['event'] for e in qmp.events]
        rig.unharmed()
        rig.delete('bit')
    with open(path, 'wb') as f:
        f.write(content)
    rig.add('bit', path)
    qmp.run_job('snapshot-load', 'good', tag='t', **on('bit'))
    rig.unharmed()
    rig.delete('bit')


def answered(session):
    """Whether anything but events has come so far."""
    while select.select([session.sock], [], [], 0)[0]:
        if 'event' not in session.read():
            return True
    return False


def size_of(path):
    info = subprocess.run(['qemu-img', 'info', '-U', '--output=json', path], check=True,
                          capture_output=True).stdout
    return json.loads(info)['virtual-size']


def test_resize_waits_its_turn(rig):
    """Also in the instant in which the tables change, and the other one's are smaller."""
    path = rig.image('resize.qcow2')
    rig.running()
    saved_by(rig)(path)
    subprocess.run(['qemu-img', 'resize', '-q', path, '4G'], check=True)
    rig.add('disk', path, slow('flush', 100))
    qmp = rig.vm.qmp
    other = rig.vm.session(1)
    qmp.events.clear()
    qmp.cmd('snapshot-load', job_id='load', tag='t', **on('disk'))
    qmp.wait_event('STOP')
    other.cmd('block_resize', node_name='disk', size=2 << 30)
    [job] = qmp.cmd('query-jobs')
    assert job['status'] == 'concluded' and 'error' not in job, job
    qmp.cmd('job-dismiss', id='load')
    rig.unharmed()
    # The snapshot that is being saved is of the size that the disk has now.
    qmp.events.clear()
    qmp.cmd('snapshot-save', job_id='save', tag='u', **on('disk'))
    qmp.cmd('block-job-set-speed', device='save', speed=64 << 10)
    qmp.wait_event('RESUME')
    other.send({'execute': 'block_resize', 'arguments': {'node-name': 'disk', 'size': 3 << 30}})
    rig.unharmed()
    assert not answered(other), 'it was resized meanwhile'
    assert qmp.cmd('query-jobs')[0]['status'] == 'running'
    qmp.cmd('block-job-set-speed', device='save', speed=0)
    assert 'error' not in concluded(qmp, 'save')
    assert other.reply() == {'return': {}}
    other.close()
    assert size_of(path) == 3 << 30
    qmp.run_job('snapshot-load', 'again', tag='u', **on('disk'))
    rig.unharmed()
    rig.delete('disk')
    check_image(path)
    assert size_of(path) == 2 << 30


def main():
    rig = Rig(sys.argv[1])
    try:
        tap.run(sys.modules[__name__], rig, needs_guest=False)
    finally:
        rig.stop()
        rig.dir.cleanup()


main()
