#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""QMP and HMP sessions of a running VM: what one client does or fails to do stays in its own
session.  Meanwhile the answers of another one are timed.

usage: sessions.py KF-SYSTEM [MIB]
MIB: how much a client sends without a line end (default: 64).
"""

import array
import json
import os
import random
import re
import shutil
import socket
import sys

from kfvm import QMP, Timeout, VM
from rig import Rig, slow
from schema import Schema
from watch import undisturbed
import tap

FLOOD = int(sys.argv[2]) if len(sys.argv) > 2 else 64


def enabled(vm, *capabilities):
    """A session with these."""
    qmp = vm.session(negotiate=False)
    qmp.cmd('qmp_capabilities', enable=list(capabilities))
    return qmp


def start_slow(rig, qmp, node, milliseconds, **more):
    """Sends a command that takes so long: the first read of the image is delayed."""
    path = rig.path(f'{node}.qcow2')
    if not os.path.exists(path):
        rig.image(f'{node}.qcow2')
    qmp.send({'execute': 'blockdev-add', 'arguments': {
        'driver': 'qcow2', 'node-name': node,
        'file': {'driver': 'blkdebug',
                 'inject-error': [{**slow('read', milliseconds), 'once': True}],
                 'image': {'driver': 'file', 'filename': path}}}, **more})


def raw(vm, name='qmp0'):
    s = socket.socket(socket.AF_UNIX)
    s.connect(os.path.join(vm.dir, name))
    return s


def fds(vm):
    return len(os.listdir(f'/proc/{vm.process.pid}/fd'))


def settle_fds(vm, expected):
    """The program has seen its clients go."""
    qmp = vm.qmp
    for _ in range(10000):
        if fds(vm) <= expected:
            return
        qmp.cmd('query-version')  # a turn of its main loop
    raise AssertionError(f'{fds(vm)} descriptors are open, {expected} before')


def peak(vm):
    """MiB that the program has used at most since the last reset."""
    with open(f'/proc/{vm.process.pid}/status', encoding='ascii') as f:
        return next(int(line.split()[1]) for line in f if line.startswith('VmHWM')) / 1024


def reset_peak(vm):
    with open(f'/proc/{vm.process.pid}/clear_refs', 'w', encoding='ascii') as f:
        f.write('5')
    return peak(vm)


def test_order(rig):
    """In-band: as it was sent, whatever is an error and whatever takes time."""
    rig.running()
    qmp = rig.vm.session()
    lines = []
    for i in range(300):
        command = ('query-status', 'none', 'query-block', 'query-version')[i % 4]
        lines.append(json.dumps({'execute': command, 'id': i}))
    start_slow(rig, qmp, 'order', 20, id='slow')
    qmp.sock.sendall(''.join(lines).encode())
    assert [qmp.reply()['id'] for _ in range(301)] == ['slow', *range(300)]
    rig.delete('order')
    qmp.close()


def test_oob(rig):
    """Every command that may be sent out of band is answered while the session is held up, and
    all others are refused."""
    rig.running()
    schema = Schema(rig.vm.qmp.cmd('query-qmp-schema'))
    marked = schema.oob()
    for name in ('query-status', 'query-jobs', 'job-cancel', 'job-dismiss', 'migrate_cancel',
                 'query-migrate', 'query-fdsets', 'query-qmp-schema', 'system_powerdown'):
        assert name in marked, f'{name} is not marked allow-oob'
    assert not {'getfd', 'add-fd', 'blockdev-add', 'human-monitor-command', 'stop',
                'qmp_capabilities'} & set(marked)
    qmp = enabled(rig.vm, 'oob')
    for name in sorted(set(schema.commands) - set(marked)):
        qmp.send({'exec-oob': name, 'arguments': schema.minimal_arguments(name)})
        assert 'does not support OOB' in qmp.reply()['error']['desc'], name
    start_slow(rig, qmp, 'oob', 400, id='in-band')
    qmp.send({'execute': 'query-status', 'id': 'behind'})
    for name in marked:
        qmp.send({'exec-oob': name, 'arguments': schema.minimal_arguments(name), 'id': name})
        reply = qmp.reply()
        assert reply['id'] == name, f'{name} waited for {reply["id"]}'
        assert 'does not support OOB' not in str(reply.get('error'))
    assert [qmp.reply()['id'] for _ in range(2)] == ['in-band', 'behind']
    rig.delete('oob')
    qmp.close()
    print(f'# {len(marked)} commands: {" ".join(marked)}')


def test_concurrent(rig):
    """Commands with an id run side by side, those without in order."""
    rig.running()
    qmp = enabled(rig.vm, 'concurrent', 'oob')
    for node in 'first', 'second':
        rig.image(f'{node}.qcow2')
    start_slow(rig, qmp, 'first', 500, id='first')
    start_slow(rig, qmp, 'second', 100, id='second')
    qmp.send({'execute': 'query-version', 'id': 'fast'})
    qmp.send({'execute': 'query-version'})
    qmp.send({'exec-oob': 'query-status', 'id': 'oob'})
    order = [qmp.reply().get('id') for _ in range(5)]
    assert sorted(map(str, order[:3])) == ['None', 'fast', 'oob'], order
    assert order[3:] == ['second', 'first'], order
    for node in 'first', 'second':
        rig.delete(node)
    qmp.close()


def test_many_slow(rig):
    """Seventy commands with ids: 64 at a time, and one out of band beside them."""
    rig.running()
    qmp = enabled(rig.vm, 'concurrent', 'oob')
    empty = rig.image('empty.qcow2')
    for i in range(70):
        shutil.copy(empty, rig.path(f'n{i}.qcow2'))
    for i in range(70):
        start_slow(rig, qmp, f'n{i}', 500, id=i)
    qmp.send({'exec-oob': 'query-status', 'id': 'oob'})
    assert qmp.reply()['id'] == 'oob'
    assert sorted(qmp.reply(60)['id'] for _ in range(70)) == list(range(70))
    for i in range(70):
        rig.delete(f'n{i}')
    qmp.close()


def test_never_reads(rig):
    """Requests with long replies for one that does not read, by QMP and HMP."""
    rig.running()
    vm = rig.vm
    before = reset_peak(vm)

    def flood():
        clients = []
        for name, hello, line in (
                ('qmp0', b'{"execute":"qmp_capabilities"}', b'{"execute":"query-qmp-schema"}\n'),
                ('qmp0', b'{"execute":"qmp_capabilities","arguments":{"enable":["oob"]}}',
                 b'{"exec-oob":"query-qmp-schema"}\n'),
                ('qmp0', b'{"execute":"qmp_capabilities","arguments":{"enable":["concurrent"]}}',
                 b'{"execute":"query-qmp-schema","id":1}\n'),
                ('hmp', b'', b'help\n'), ('hmp', b'', b'a' * 1000 + b'\x1b[D' * 900),
                ('hmp', b'', b'i\t\t\t')):
            s = raw(vm, name)
            s.sendall(hello)
            s.settimeout(0.2)
            try:
                for _ in range(20000):
                    s.sendall(line)
            except TimeoutError:
                pass  # the program takes no more
            clients.append(s)
        for s in clients:
            s.close()

    open_before = fds(vm)
    undisturbed(vm, 'clients that do not read', flood)
    settle_fds(vm, open_before)
    used = peak(vm) - before
    print(f'# peak: {used:.1f} MiB more than before')
    assert used < 32, f'{used} MiB'


def test_no_line_end(rig):
    """Endless strings, numbers, lists; an endless line for the human monitor."""
    rig.running()
    vm = rig.vm
    before = reset_peak(vm)

    def flood():
        for name, begin, piece in (('qmp0', b'"', b'a' * 65536), ('qmp0', b'', b'1' * 65536),
                                   ('qmp0', b'[', b'{},' * 2184), ('qmp0', b'', b'[' * 65536),
                                   ('qmp0', b'{"a":', b' ' * 65536), ('hmp', b'', b'a' * 65536)):
            s = raw(vm, name)
            s.sendall(begin)
            s.settimeout(0.001)
            # Many empty objects end in as many errors: fewer of them will do.
            for _ in range(FLOOD * 16 // 5 if len(piece) == 65536 else 40):
                sent = 0
                while sent < len(piece):
                    try:
                        sent += s.send(piece[sent:])
                    except TimeoutError:  # it answers with errors: make room for them
                        try:
                            s.recv(1 << 20)
                        except TimeoutError:
                            pass
            s.close()

    open_before = fds(vm)
    undisturbed(vm, f'{FLOOD} MiB without a line end', flood)
    settle_fds(vm, open_before)
    used = peak(vm) - before
    print(f'# peak: {used:.1f} MiB more than before')
    assert used < 96, f'{used} MiB'


def test_vanishing(rig):
    """Clients that go in the middle of a request, a command, a reply."""
    rig.running()
    vm = rig.vm
    rng = random.Random(5)

    def vanish():
        for i in range(60):
            s = raw(vm, ('qmp0', 'qmp0', 'hmp')[i % 3])
            text = (b'{"execute":"qmp_capabilities"}{"execute":"query-qmp-schema"}'
                    b'{"execute":"query-named-block-nodes"}{"execute":"human-monitor-command",'
                    b'"arguments":{"command-line":"info version"}}help\n')
            s.sendall(text[:rng.randrange(len(text))])
            if rng.random() < 0.5:
                s.recv(rng.randrange(1, 400))
            s.close()

    open_before = fds(vm)
    undisturbed(vm, 'clients that vanish', vanish)
    for i in range(10):  # while the handler is at work
        qmp = vm.session()
        start_slow(rig, qmp, f'v{i}', 20)
        qmp.close()
    names = {f'v{i}' for i in range(10)}
    while names - {n['node-name'] for n in vm.qmp.cmd('query-named-block-nodes')}:
        pass  # the handlers end in peace
    for i in range(10):
        rig.delete(f'v{i}')
    settle_fds(vm, open_before)


def test_passed_descriptors(rig):
    """A client that hands over more descriptors than anybody takes."""
    rig.running()
    vm = rig.vm
    open_before = fds(vm)
    s = raw(vm)
    with open('/dev/null', 'rb') as null:
        for _ in range(100):
            s.sendmsg([b' '], [(socket.SOL_SOCKET, socket.SCM_RIGHTS,
                                array.array('i', [null.fileno()] * 10))])
    s.sendall(b'{"execute":"qmp_capabilities"}')
    got = b''
    while b'"return"' not in got:
        got += s.recv(4096)
    assert fds(vm) <= open_before + 40, fds(vm)
    s.close()
    settle_fds(vm, open_before)


def test_500_sessions(rig):
    """Five hundred at once, all answered, all gone in the end."""
    rig.running()
    vm = rig.vm
    open_before = fds(vm)
    sessions = []

    def work():
        sessions.extend(QMP(vm.qmp_paths[0], timeout=60) for _ in range(500))
        for _ in range(3):
            for qmp in sessions:
                qmp.send({'execute': 'query-status'})
            assert all('return' in qmp.reply() for qmp in sessions)

    undisturbed(vm, '500 sessions', work)
    vm.qmp.cmd('system_powerdown')
    for qmp in sessions:
        qmp.wait_event('POWERDOWN')
    try:
        sessions[0].read(0)
        raise AssertionError('the event came twice')
    except Timeout:
        pass
    for qmp in sessions:
        qmp.close()
    settle_fds(vm, open_before)


def test_output_that_nobody_reads(rig):
    """stdout and stderr are one pipe, which is full: commands that print there return."""
    path = rig.image('pipe.qcow2')
    r, w = os.pipe()
    os.set_blocking(w, False)
    filled = 0
    try:
        while True:
            filled += os.write(w, b'x' * 4096)
    except BlockingIOError:
        os.set_blocking(w, True)  # as a program finds it

    def streams():
        os.dup2(w, 1)
        os.dup2(w, 2)

    with VM(rig.binary, ['-m', '16M', '-S', '-blockdev', json.dumps(
            {'driver': 'qcow2', 'node-name': 'n',
             'file': {'driver': 'file', 'filename': path}})], preexec=streams) as vm:
        for i in range(50):
            vm.qmp.hmp(f'qemu-io n "nope-{i}"')
            vm.qmp.hmp('qemu-io n length')
        assert vm.qmp.cmd('query-status')['status'] == 'prelaunch'
        said = b''
        while b'nope-49' not in said[filled:] or said.count(b'64 MiB') < 50:
            said += os.read(r, 65536)
        assert re.findall(rb'"nope-(\d+)" not found', said) == [b'%d' % i for i in range(50)], said
        # And once more, to the end: nobody reads what comes now.
        os.set_blocking(w, False)
        try:
            while True:
                os.write(w, b'x' * 4096)
        except BlockingIOError:
            os.set_blocking(w, True)
        vm.qmp.hmp('qemu-io n "nope"')
        vm.qmp.cmd('quit')
        assert vm.process.wait(30) == 0
    os.close(r)
    os.close(w)


class HmpRig(Rig):
    def start(self, *extra, memory='32M'):
        super().start('-monitor', f'unix:{self.path("hmp")},server=on,wait=off', *extra,
                      memory=memory)
        os.symlink(self.path('hmp'), os.path.join(self.vm.dir, 'hmp'))


def test_answers_before_the_end(_):
    """Who begins to read when the program ends gets all, the answer to quit too."""
    with VM(sys.argv[1], ['-S'], monitors=2) as vm:
        late = vm.session(1)
        late.sock.sendall(b'{"execute": "query-qmp-schema", "id": 1}{"execute": "quit", "id": 2}')
        vm.qmp.wait_event('SHUTDOWN')
        ids = []
        try:
            while True:
                ids.append(late.read().get('id'))
        except EOFError:
            pass
        assert [i for i in ids if i] == [1, 2], ids
        assert vm.process.wait(30) == 0


if __name__ == '__main__':
    # What ASan keeps from being used again would count as memory that the program needs.
    os.environ['ASAN_OPTIONS'] = os.environ.get('ASAN_OPTIONS', '') + ':quarantine_size_mb=1'
    the_rig = HmpRig(sys.argv[1])
    try:
        tap.run(sys.modules[__name__], the_rig, needs_guest=False)
    finally:
        the_rig.stop()
        the_rig.dir.cleanup()
