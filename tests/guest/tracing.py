#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Trace points and the log, as users switch them: command line, QMP, HMP, kf-img.

usage: tracing.py KF-SYSTEM KF-IMG
"""

import os
import re
import select
import struct
import subprocess
import sys
import tempfile
import time

from bare import RAM, S0, Code
from kfvm import Timeout, VM
from rig import on
import tap

BINARY, IMG = sys.argv[1:3]


def wait_for(path, text, timeout=20):
    """Until the file has the text; a log is written behind everybody's back."""
    deadline = time.monotonic() + timeout
    while True:
        with open(path, encoding='utf-8') as file:
            said = file.read()
        if text in said:
            return said
        if time.monotonic() > deadline:
            raise Timeout(f'{text!r} is not in: {said[-2000:]}')
        select.select([], [], [], 0.01)


def trapping():
    """A guest that asks for a CSR which is not there, and reads where nothing is; then stays."""
    c = Code()
    c.li(S0, RAM + 0x100)
    c.csrw(0x305, S0)  # mtvec
    c.csrw(0x7ff, S0)
    code = c.bytes().ljust(0x100, b'\0')
    return code + struct.pack('<3I', 0x00000293, 0x0002b283, 0x0000006f)  # li t0,0; ld t0,(t0)


def test_command_line():
    with tempfile.TemporaryDirectory() as directory:
        log = directory + '/log'
        with VM(BINARY, ['-m', '16M', '-S', '-D', log, '-trace', 'enable=runstate_*']) as vm:
            vm.qmp.cmd('cont')
            said = wait_for(log, '(running)\n')
            assert 'runstate_set current_run_state' in said
            vm.qmp.hmp(f'logfile {log}2')
            vm.qmp.cmd('stop')
            said = wait_for(log + '2', '(paused)\n')
            assert '(running) new_run_state' in said
        with VM(BINARY, ['-S', '-D', log, '-msg', 'timestamp=on', '-trace', 'runstate_*']) as vm:
            vm.qmp.cmd('cont')
            assert re.match(r'\d+@\d+\.\d{6}:runstate_set ', wait_for(log, '(running)\n'))
    run = subprocess.run([BINARY, '-trace', 'help'], capture_output=True, text=True, check=True)
    assert 'qcow2_flush\n' in run.stdout and 'runstate_set\n' in run.stdout
    run = subprocess.run([BINARY, '-d', 'help'], capture_output=True, text=True, check=True)
    assert run.stdout.startswith('Log items (comma separated):\nint')
    for args, message in ((['-d', 'in_asm'], "log item 'in_asm' is not supported"),
                          (['-D', '/nonexistent/x'], 'Error opening logfile /nonexistent/x: '),
                          (['-trace', 'zork=1'], "Invalid parameter 'zork'")):
        run = subprocess.run([BINARY, '-M', 'none', *args], capture_output=True, text=True,
                             check=False)
        assert run.returncode == 1 and message in run.stderr, run.stderr


def test_monitor():
    with VM(BINARY, ['-m', '16M', '-S']) as vm:
        def run(command, **arguments):
            vm.qmp.send({'execute': command, 'arguments': arguments})
            return vm.qmp.reply()

        def state(name):
            return run('trace-event-get-state', name=name)['return']

        off = {'name': 'qcow2_flush', 'state': 'disabled', 'vcpu': False}
        assert state('qcow2_flush') == [off]
        assert state('zork*') == []
        for name, arguments, message in (
                ('trace-event-get-state', {'name': 'zork'}, 'unknown event "zork"'),
                ('trace-event-set-state', {'name': 'zork', 'enable': True},
                 'unknown event "zork"'),
                ('trace-event-get-state', {'name': 'qcow2_flush', 'vcpu': 0},
                 'event "qcow2_flush" is not vCPU-specific')):
            assert run(name, **arguments)['error'] == {'class': 'GenericError', 'desc': message}
        assert run('trace-event-set-state', name='qcow2_*', enable=True) == {'return': {}}
        assert {e['state'] for e in state('qcow2_*')} == {'enabled'}
        assert vm.qmp.hmp('info trace-events qcow2_flush') == 'qcow2_flush : state 1\r\n'
        assert vm.qmp.hmp('trace-event qcow2_* off') == ''
        assert state('qcow2_flush') == [off]
        assert vm.qmp.hmp('trace-event zork on') == 'unknown event "zork"\r\n'
        assert vm.qmp.hmp('log zork').startswith('Log items (comma separated):\r\nnone')
        assert vm.qmp.hmp('log trace:runstate_*') == ''
        assert state('runstate_set')[0]['state'] == 'enabled'
        assert 'runstate_set : state 1\r\n' in vm.qmp.hmp('info trace-events')


def test_phases_of_a_snapshot():
    with tempfile.TemporaryDirectory() as directory:
        log, image = directory + '/log', directory + '/a.qcow2'
        subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', image, '64M'], check=True)
        with VM(BINARY, ['-m', '16M', '-S', '-D', log, '-trace', 'snapshot_*', '-trace',
                         'qcow2_flush*', '-blockdev',
                         f'qcow2,node-name=n,file.driver=file,file.filename={image}']) as vm:
            vm.qmp.run_job('snapshot-save', 'j', tag='t', **on('n'))
            said = wait_for(log, 'snapshot_save_end tag t ok 1\n')
            phases = re.findall(r'^snapshot_save_(\w+)', said, re.M)
            assert phases == ['prepare', 'blackout', 'released', 'write', 'publish', 'end'], said
            assert 'qcow2_flush_done bs 0x' in said
            vm.qmp.run_job('snapshot-load', 'j', tag='t', **on('n'))
            said = wait_for(log, 'snapshot_load_end tag t ok 1\n')
            phases = re.findall(r'^snapshot_load_(\w+)', said, re.M)
            assert phases[:3] == ['prepare', 'blackout', 'released'] and phases[-1] == 'end', said


def test_guest_items():
    with tempfile.TemporaryDirectory() as directory:
        log, payload = directory + '/log', directory + '/payload'
        with open(payload, 'wb') as file:
            file.write(trapping())
        with VM(BINARY, ['-m', '16M', '-bios', payload, '-D', log, '-d',
                         'int,unimp,guest_errors,cpu_reset']):
            said = wait_for(log, 'desc=fault_load')
        assert re.search(r'^riscv_cpu_do_interrupt: hart:0, async:0, cause:0{15}2, '
                         r'epc:0x0000000080000014, tval:0x[0-9a-f]{16}, desc=illegal_instruction$',
                         said, re.M), said
        assert 'no access to CSR 0x7ff in mode 3\n' in said
        assert "Invalid read at addr 0x0, size 8, region '(null)', reason: rejected\n" in said
        assert said.startswith('CPU Reset (CPU 0)\n pc       ')


def test_img():
    with tempfile.TemporaryDirectory() as directory:
        image, log, events = (os.path.join(directory, n) for n in ('a.qcow2', 'log', 'events'))

        def img(*args, code=0):
            run = subprocess.run([IMG, *args], capture_output=True, text=True, check=False)
            assert run.returncode == code, run.stderr
            return run

        img('create', '-q', '-f', 'qcow2', image, '1M')
        said = img('-T', 'bdrv_co_open', 'info', image)
        assert re.search(r'^bdrv_co_open driver qcow2 node \S+ bs 0x', said.stderr, re.M)
        img('--trace', f'bdrv_co_preadv,file={log}', 'info', image)
        with open(log, encoding='utf-8') as file:
            assert re.match(r'bdrv_co_preadv bs 0x\w+ offset 0 bytes \d+ flags 0x0\n', file.read())
        with open(events, 'w', encoding='utf-8') as file:
            file.write('# a comment\nbdrv_co_open\nzork\n')
        said = img('-T', f'events={events}', 'info', image)
        assert f"kf-img:{events}:3: warning: trace event 'zork' does not exist\n" in said.stderr
        assert 'bdrv_co_open driver' in said.stderr
        assert 'qcow2_flush\n' in img('-T', 'help').stdout
        assert img('-T', 'zork=1', 'info', image, code=1).stderr == \
            "kf-img: Invalid parameter 'zork'\n"


if __name__ == '__main__':
    tap.run(sys.modules[__name__], needs_guest=False)
