#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Saves, loads and deletes a running Linux through QMP and HMP; the guest itself proves
that RAM and disk are of one instant (workload.c), Debian's qemu-img that the image is sound.

usage: snapshot-linux.py KF-SYSTEM [ROUNDS]
"""

import os
import select
import signal
import subprocess
import sys
import tempfile

from kfvm import QMPError, VM, disk_args, linux_args
import tap

BINARY = sys.argv[1]
ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 3
FILL = 64
SNAPSHOT = {'vmstate': 'disk0', 'devices': ['disk0']}


class Guest:
    """The one VM that most tests share, with its workload running."""

    def __init__(self):
        self.dir = tempfile.TemporaryDirectory(prefix='kftest-')
        self.image = os.path.join(self.dir.name, 'disk.qcow2')
        subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', self.image, '256M'], check=True)
        self.vm = None

    def start(self, *extra):
        self.vm = VM(BINARY, linux_args('256M') + disk_args(self.image) + list(extra), monitors=2)

    def boot(self):
        self.vm.serial.expect('GUEST READY', 120)
        self.vm.serial.expect('guest#')
        self.vm.serial.send(f'workload fill={FILL} rate=20 beat=1000 disk=/dev/vda\n')
        self.vm.serial.expect('WORKLOAD READY', 60)
        self.vm.serial.expect('hhh')

    def verify(self):
        """Every byte of the guest's memory is as it should be, and no test in it failed."""
        self.vm.serial.drain()
        self.vm.serial.send('v')
        found = self.vm.serial.expect(' next=', 60)
        assert 'VERIFY OK' in found, found[-400:]
        assert b'BAD' not in self.vm.serial.log, 'the guest found damage'
        self.vm.serial.expect('hhh')

    def check_image(self, leaks=False):
        """Debian's qemu-img finds no error; leaks only where they are allowed."""
        result = subprocess.run(['qemu-img', 'check', '-U', self.image], capture_output=True, text=True)
        assert result.returncode in ((0, 3) if leaks else (0,)), result.stdout + result.stderr

    def tags(self):
        out = subprocess.run(['qemu-img', 'snapshot', '-l', '-U', self.image], check=True,
                             capture_output=True, text=True).stdout
        return [line.split()[1] for line in out.splitlines()[2:]]


def expect_error(function, text):
    try:
        function()
    except QMPError as error:
        assert text in error.desc, f'{error.desc!r} has no {text!r}'
        return
    raise AssertionError(f'no error; expected {text!r}')


def test_boot(guest):
    guest.start()
    guest.boot()
    guest.verify()


def test_save_and_load_rounds(guest):
    for i in range(ROUNDS):
        guest.vm.qmp.run_job('snapshot-save', f's{i}', tag=f'round{i}', **SNAPSHOT)
        guest.verify()
        guest.vm.qmp.run_job('snapshot-load', f'l{i}', tag=f'round{i}', **SNAPSHOT)
        guest.verify()
    for i in range(ROUNDS):
        guest.vm.qmp.run_job('snapshot-load', f'm{i}', tag=f'round{ROUNDS - 1 - i}', **SNAPSHOT)
        guest.verify()
    assert guest.vm.qmp.cmd('query-status')['status'] == 'running'


def test_event_order(guest):
    qmp = guest.vm.qmp
    qmp.events.clear()
    qmp.cmd('snapshot-save', job_id='ev', tag='events', **SNAPSHOT)
    order = []
    while not order or order[-1] != 'concluded':
        message = qmp.events.pop(0) if qmp.events else qmp.read()
        order.append(message['data']['status'] if message['event'] == 'JOB_STATUS_CHANGE'
                     else message['event'])
    qmp.cmd('job-dismiss', id='ev')
    assert order == ['created', 'running', 'STOP', 'RESUME', 'waiting', 'pending',
                     'concluded'], order


def test_other_session_is_answered(guest):
    other = guest.vm.session(1)
    answered = 0
    guest.vm.qmp.cmd('snapshot-save', job_id='poll', tag='polled', **SNAPSHOT)
    while True:
        jobs = [j for j in other.cmd('query-jobs') if j['id'] == 'poll']
        if jobs[0]['status'] == 'concluded':
            break
        assert other.cmd('query-status')['status'] in ('running', 'save-vm')
        answered += 1
    other.cmd('job-dismiss', id='poll')
    guest.vm.qmp.job_states('poll')
    assert 'error' not in jobs[0], jobs[0]
    assert answered > 3, f'{answered} answers during the save'
    other.close()


def test_hmp(guest):
    qmp = guest.vm.qmp
    assert qmp.hmp('savevm hmp1') == ''
    assert qmp.hmp('savevm hmp1') == ''  # replaces
    assert ' hmp1 ' in qmp.hmp('info snapshots')
    assert qmp.hmp('loadvm hmp1') == ''
    guest.verify()
    assert qmp.hmp('delvm hmp1') == ''
    assert ' hmp1 ' not in qmp.hmp('info snapshots')
    assert qmp.hmp('loadvm hmp1').startswith('Error: ')
    guest.verify()


def test_bad_arguments(guest):
    qmp = guest.vm.qmp

    def job(command, **args):
        return lambda: qmp.run_job(command, 'bad', **args)

    expect_error(job('snapshot-save', tag='x', vmstate='nosuch', devices=['nosuch']), 'nosuch')
    expect_error(job('snapshot-save', tag='x', vmstate='disk0', devices=[]), 'At least one device')
    expect_error(job('snapshot-save', tag='round0', **SNAPSHOT), 'round0')
    expect_error(job('snapshot-load', tag='nosuch', **SNAPSHOT), 'nosuch')
    expect_error(job('snapshot-delete', tag='x', devices=['nosuch']), 'nosuch')
    expect_error(lambda: qmp.cmd('snapshot-save', job_id='bad'), "'tag' is missing")
    qmp.events.clear()
    guest.verify()


def test_second_save_waits(guest):
    qmp = guest.vm.qmp
    qmp.cmd('snapshot-save', job_id='first', tag='first', **SNAPSHOT)
    qmp.cmd('snapshot-save', job_id='second', tag='second', **SNAPSHOT)
    ended = []
    while len(ended) < 2:
        event = qmp.wait_event('JOB_STATUS_CHANGE', match=lambda d: d['status'] == 'concluded')
        ended.append(event['data']['id'])
    assert ended == ['first', 'second'], (ended, qmp.cmd('query-jobs'))
    for job in qmp.cmd('query-jobs'):
        assert 'error' not in job, job
        qmp.cmd('job-dismiss', id=job['id'])
    qmp.events.clear()
    assert {'first', 'second'} <= set(guest.tags())


def test_cancel_in_mid_save(guest):
    qmp = guest.vm.qmp
    before = set(guest.tags())
    qmp.cmd('snapshot-save', job_id='cancel', tag='cancelled', **SNAPSHOT)
    qmp.wait_event('RESUME')
    qmp.cmd('job-cancel', id='cancel')
    states = qmp.job_states('cancel', 'concluded')
    assert 'aborting' in states, states
    qmp.cmd('job-dismiss', id='cancel')
    qmp.events.clear()
    assert set(guest.tags()) == before
    guest.verify()


def test_client_disconnects(guest):
    client = guest.vm.session(1)
    client.cmd('snapshot-save', job_id='gone', tag='gone', **SNAPSHOT)
    client.close()
    qmp = guest.vm.qmp
    qmp.wait_event('JOB_STATUS_CHANGE',
                   match=lambda d: (d['id'], d['status']) == ('gone', 'concluded'))
    qmp.cmd('job-dismiss', id='gone')
    qmp.events.clear()
    assert 'gone' in guest.tags()
    guest.verify()


def test_delete(guest):
    for tag in guest.tags():
        if tag != 'round0':
            guest.vm.qmp.run_job('snapshot-delete', 'del', tag=tag, devices=['disk0'])
    assert guest.tags() == ['round0']
    guest.verify()


def test_quit_leaves_a_sound_image(guest):
    assert guest.vm.quit() == 0
    guest.check_image()
    assert guest.tags() == ['round0']


def test_kill_in_mid_save(guest):
    """kill -9 at several moments: leaks at most, and the earlier snapshot loads."""
    for i in range(ROUNDS):
        guest.start('-loadvm', 'round0')
        guest.vm.serial.expect('hhh')
        guest.vm.qmp.cmd('snapshot-save', job_id='kill', tag='killed', **SNAPSHOT)
        guest.vm.qmp.wait_event('RESUME')
        select.select([], [], [], 0.02 * i)  # the moments differ
        guest.vm.kill(signal.SIGKILL)
        guest.check_image(leaks=True)
        assert guest.tags()[0] == 'round0'
        if 'killed' in guest.tags():
            subprocess.run(['qemu-img', 'snapshot', '-d', 'killed', guest.image], check=True)
    guest.start('-loadvm', 'round0')
    guest.vm.serial.expect('hhh')
    guest.verify()
    assert guest.vm.quit() == 0
    guest.check_image(leaks=True)


def main():
    guest = Guest()
    try:
        tap.run(sys.modules[__name__], guest)
    finally:
        if guest.vm and guest.vm.process.poll() is None:
            guest.vm.kill()
        guest.dir.cleanup()


main()
