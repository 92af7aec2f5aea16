#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""commit: an overlay goes down into its backing file while it is written; when that fails, or is
given up, nothing has changed that anybody sees.

usage: commit.py KF-SYSTEM
"""

import json
import os
import random
import select
import socket
import subprocess
import sys
import time

import tap
from kfvm import PATIENCE, connect
from rig import Rig, check_image, fails, fault, slow

MIB = 1 << 20
BLOCK = 65536


def make(rig, size=64 * MIB):
    """base.qcow2, and over.qcow2 on it."""
    base, over = rig.path('base.qcow2'), rig.path('over.qcow2')
    for path in (base, over):
        if os.path.exists(path):
            os.unlink(path)
    subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', base, str(size)], check=True)
    subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', over],
                   check=True)
    return base, over


def drive(path, *more):
    return ['-drive', ','.join([f'if=none,id=d,file={path},format=qcow2', *more])]


def over_rules(base, *rules, **more):
    """The base as a node that may be written, over blkdebug; and what the drive says of it."""
    node = {'driver': 'qcow2', 'node-name': 'b',
            'file': {'driver': 'blkdebug', 'inject-error': list(rules),
                     'image': {'driver': 'file', 'filename': base}}, **more}
    return ['-blockdev', json.dumps(node)]


def io(qmp, command):
    """qemu-io on the drive; what it prints of errors goes to the machine's own output."""
    assert qmp.hmp(f'qemu-io d "{command}"') == ''


def contents(path):
    """All of an image."""
    plain = path + '.raw'
    subprocess.run(['qemu-img', 'convert', '-U', '-O', 'raw', path, plain], check=True)
    with open(plain, 'rb') as f:
        data = f.read()
    os.unlink(plain)
    return data


class Model:
    """What the disk must hold."""

    def __init__(self, size=64 * MIB):
        self.data = bytearray(size)

    def write(self, qmp, offset, length, byte):
        io(qmp, f'write -q -P {byte} {offset} {length}')
        self.data[offset:offset + length] = bytes([byte]) * length

    def zero(self, qmp, offset, length):
        io(qmp, f'write -q -z {offset} {length}')
        self.data[offset:offset + length] = bytes(length)


def allocated(qmp, rig):
    """Whether the overlay has anything of its own; what qemu-io prints comes to our log."""
    before = len(rig.vm.errors())
    qmp.hmp('qemu-io d "map"')
    deadline = time.monotonic() + 20 * PATIENCE
    while 'at offset' not in rig.vm.errors()[before:]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return 'bytes     allocated' in rig.vm.errors()[before:]


def test_while_it_is_written(rig):
    """Writes that come in between are in the base, too; each of them, wherever it hits."""
    base, over = make(rig)
    model, rnd = Model(), random.Random(1)
    rig.start('-S', *over_rules(base, slow('write', 5)), *drive(over, 'backing=b'))
    qmp, second = rig.vm.qmp, rig.vm.session(1)
    model.write(qmp, 0, 48 * MIB, 1)
    model.zero(qmp, 50 * MIB, 4 * MIB)
    qmp.send({'execute': 'human-monitor-command', 'arguments': {'command-line': 'commit d'}})
    writes = 0
    # As long as the writer never rests the commit goes round: it rests after some.
    while writes < 60 and not select.select([qmp.sock], [], [], 0)[0]:
        offset, length = rnd.randrange(60 * 16) * BLOCK + rnd.choice((0, 512, 4096)), BLOCK
        if rnd.random() < 0.2:
            model.zero(second, offset, length)
        else:
            model.write(second, offset, length, rnd.randrange(2, 255))
        writes += 1
    assert qmp.reply()['return'] == ''
    assert writes > 20, f'only {writes} writes while it was committed'
    fails(lambda: second.cmd('blockdev-add', driver='qcow2', node_name='x', file='nothing'))
    io(qmp, 'flush')
    assert contents(over) == model.data
    assert qmp.hmp('commit d') == ''
    assert not allocated(qmp, rig)
    assert rig.vm.quit() == 0
    assert contents(base) == model.data and contents(over) == model.data
    check_image(base)
    check_image(over)


def test_every_write_fails_once(rig):
    """The n-th write to the base fails: the overlay keeps all it had, and the next try succeeds."""
    base, over = make(rig, 8 * MIB)
    for n in range(100):
        rig.start('-S', *over_rules(base, fault('write', n, 28)), *drive(over, 'backing=b'))
        model, qmp = Model(8 * MIB), rig.vm.qmp
        model.write(qmp, 0, 3 * MIB, n + 1)
        model.write(qmp, 4 * MIB, BLOCK, n + 2)
        said = qmp.hmp('commit d')
        if said:
            assert said == "'commit' error for 'd': No space left on device\r\n", said
            io(qmp, f'read -q -P {n + 1} 0 3M')
            assert allocated(qmp, rig)
            assert qmp.hmp('commit d') == ''
        assert not allocated(qmp, rig)
        assert rig.vm.quit() == 0
        assert contents(base) == model.data
        check_image(base, leaks=True)
        if not said:
            break
    assert 3 < n < 99, n


def test_given_up(rig):
    """Ctrl-C, and the end of the program, leave the overlay with all it had."""
    base, over = make(rig)
    path = rig.path('hmp')
    model = Model()
    rig.start('-S', '-monitor', f'unix:{path},server=on,wait=off',
              *over_rules(base, slow('write', 50)), *drive(over, 'backing=b'))
    model.write(rig.vm.qmp, 0, 32 * MIB, 7)
    hmp = connect(path, 20)
    hmp.sendall(b'commit d\n')
    seen = b''
    hmp.settimeout(20 * PATIENCE)
    while b'commit d\r\n' not in seen:
        seen += hmp.recv(4096)
    hmp.sendall(b'\x03')
    while b'was cancelled' not in seen:
        data = hmp.recv(4096)
        assert data, seen
        seen += data
    hmp.close()
    assert allocated(rig.vm.qmp, rig)
    rig.vm.qmp.send({'execute': 'human-monitor-command',
                     'arguments': {'command-line': 'commit all'}})
    rig.vm.session(1).send({'execute': 'quit'})
    assert rig.vm.process.wait(20 * PATIENCE) == 0
    assert contents(over) == model.data
    check_image(over)


def test_who_else(rig):
    """What uses the base keeps it from being written; jobs and internal snapshots of the overlay."""
    base, over = make(rig)
    rig.start('-S', *drive(over))
    qmp = rig.vm.qmp
    [block] = qmp.cmd('query-block')
    node = block['inserted']['node-name']
    below = qmp.cmd('query-named-block-nodes')
    [b] = [n['node-name'] for n in below if n['file'] == base and n['drv'] == 'qcow2']
    qmp.cmd('blockdev-add', driver='raw', node_name='r', file=b, read_only=True)
    said = qmp.hmp('commit d')
    assert said.startswith("'commit' error for 'd': Permission denied (node"), said
    qmp.cmd('blockdev-del', node_name='r')
    qmp.hmp('snapshot_blkdev_internal d s')
    said = qmp.hmp('commit all')
    assert said.startswith("'commit' error for 'all': Operation not supported (node") and \
        'internal snapshots' in said, said
    qmp.hmp('snapshot_delete_blkdev_internal d s')
    spare = rig.image('spare.qcow2')
    qmp.cmd('blockdev-add', driver='qcow2', node_name='spare',
            file={'driver': 'blkdebug', 'inject-error': [slow('write', 20)],
                  'image': {'driver': 'file', 'filename': spare}})
    io(qmp, 'write -q -P 1 0 8M')
    qmp.cmd('blockdev-backup', job_id='j', device=node, target='spare', sync='full')
    said = qmp.hmp('commit d')
    assert said.startswith("'commit' error for 'd': Device or resource busy"), said
    qmp.cmd('job-cancel', id='j')
    qmp.job_states('j')
    said = qmp.hmp('commit d')
    assert said == '', said
    assert rig.vm.quit() == 0


def test_damaged_base(rig):
    """A base that is marked as corrupt is not written."""
    base, over = make(rig)
    with open(base, 'r+b') as f:
        f.seek(79)
        f.write(b'\x02')
    rig.start('-S', *drive(over))
    io(rig.vm.qmp, 'write -q -P 1 0 1M')
    said = rig.vm.qmp.hmp('commit d')
    assert 'corrupt' in said, said
    io(rig.vm.qmp, 'read -q -P 1 0 1M')
    assert rig.vm.quit() == 0


def other_writer(path):
    """Whether another program may write to the image."""
    return subprocess.run(['qemu-io', '-f', 'qcow2', '-c', 'write -q 63M 64k', path],
                          capture_output=True, check=False).returncode == 0


def test_multiplexer(rig):
    """Ctrl-A s saves what -snapshot keeps, again and again; others stay locked out all the time."""
    base, _ = make(rig)
    path = rig.path('mux')
    rig.start('-S', '-snapshot', '-chardev', f'socket,id=m,path={path},server=on,wait=off,mux=on',
              '-mon', 'm', *drive(base))
    mux = socket.socket(socket.AF_UNIX)
    mux.connect(path)
    for byte in (5, 6):
        io(rig.vm.qmp, f'write -q -P {byte} 1M 1M')
        mux.sendall(b'\x01s')
        while allocated(rig.vm.qmp, rig):
            pass
        assert not other_writer(base)
        assert contents(base)[MIB:2 * MIB] == bytes([byte]) * MIB
    rig.vm.qmp.hmp('snapshot_blkdev_internal d s')
    before = len(rig.vm.errors())
    mux.sendall(b'\x01s')
    while "'commit' error for 'all': Operation not supported" not in rig.vm.errors()[before:]:
        rig.vm.qmp.cmd('query-status')
    mux.close()
    assert rig.vm.quit() == 0
    assert other_writer(base)
    check_image(base)


def main():
    rig = Rig(os.path.abspath(sys.argv[1]))
    try:
        tap.run(sys.modules[__name__], rig, needs_guest=False)
    finally:
        rig.stop()


main()
