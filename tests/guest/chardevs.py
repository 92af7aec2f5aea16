#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Character devices and descriptors of a running VM: the guest's line moved from one place to
another, devices that take time to open, monitors on every kind, sets of descriptors.

usage: chardevs.py KF-SYSTEM
"""

import array
import json
import os
import socket
import subprocess
import sys

from kfvm import QMP, Serial, VM
from rig import Rig, fails, wait_status
from watch import undisturbed
import tap

BINARY = sys.argv[1]


def unix(path, server=True, **more):
    return {'type': 'socket', 'data': {'server': server, 'addr': {
        'type': 'unix', 'data': {'path': path, **more}}}}


def with_fds(qmp, fds, name, **args):
    """The command with descriptors beside its first byte."""
    text = json.dumps({'execute': name, 'arguments': {
        k.replace('_', '-'): v for k, v in args.items()}}).encode()
    qmp.sock.sendmsg([text], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', fds))])
    message = qmp.reply()
    assert 'return' in message, message
    return message['return']


def test_serial_moves(rig):
    """The guest prints on, first here, then there; input follows."""
    rig.start()
    qmp = rig.vm.qmp
    rig.vm.serial.expect('hhh')
    first, second, log = rig.path('first'), rig.path('second'), rig.path('log')
    assert qmp.cmd('chardev-change', id='serial0', backend=unix(first)) == {}
    assert rig.vm.serial.sock.recv(1 << 20) is not None  # what was on its way, or the end
    line = Serial(first)
    line.expect('hhh')
    fails(lambda: qmp.cmd('chardev-change', id='serial0', backend={
        'type': 'file', 'data': {'out': '/nonexistent/x'}}), 'Could not open', 'No such file')
    line.expect('hhh')  # it has stayed
    qmp.cmd('chardev-change', id='serial0', backend=unix(second))
    again = Serial(second)
    again.expect('hhh')
    assert not os.path.exists(first), 'the old socket is still there'
    for _ in range(2):  # the same place: the new one must not lose its file to the old one
        qmp.cmd('chardev-change', id='serial0', backend=unix(second))
        third = Serial(second)
        third.expect('hhh')
        third.close()
    pty = qmp.cmd('chardev-change', id='serial0', backend={'type': 'pty', 'data': {}})['pty']
    fd = os.open(pty, os.O_RDONLY | os.O_NOCTTY)
    assert os.read(fd, 1) == b'h'
    os.close(fd)
    qmp.cmd('chardev-change', id='serial0', backend={'type': 'file', 'data': {'out': log}})
    while os.path.getsize(log) < 3:
        qmp.cmd('query-status')
    with open(log, 'rb') as f:
        assert set(f.read()) <= set(b'h')
    assert rig.vm.qmp.hmp(f'chardev-change serial0 socket,path={first},server=on') == ''
    line = Serial(first)
    line.expect('hhh')
    fails(lambda: qmp.cmd('chardev-change', id='compat_monitor0', backend=unix(log)),
          'Chardev user does not support chardev hotswap')
    rig.stop()


def test_slow_devices(rig):
    """A FIFO that nobody reads, a peer that does not accept: only who asks waits."""
    rig.start()
    vm = rig.vm
    fifo, full = rig.path('fifo'), rig.path('full')
    os.mkfifo(fifo)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(full)
    listener.listen(0)
    waiting = socket.socket(socket.AF_UNIX)
    waiting.connect(full)  # the queue is full: the next one waits
    clients = [vm.session() for _ in range(3)]

    def ask():
        clients[0].send({'execute': 'chardev-add', 'arguments': {
            'id': 'fifo', 'backend': {'type': 'file', 'data': {'out': fifo}}}})
        clients[1].send({'execute': 'chardev-add', 'arguments': {
            'id': 'full', 'backend': unix(full, server=False)}})
        clients[2].send({'execute': 'human-monitor-command', 'arguments': {
            'command-line': f'chardev-add socket,id=full2,path={full}'}})
        for _ in range(300):
            vm.qmp.cmd('query-chardev')

    undisturbed(vm, 'devices that do not open', ask)
    labels = {c['label'] for c in vm.qmp.cmd('query-chardev')}
    assert not labels & {'fifo', 'full', 'full2'}, labels
    fails(lambda: vm.qmp.cmd('chardev-add', id='fifo', backend={'type': 'null', 'data': {}}),
          "Chardev with id 'fifo' already exists")
    with open(fifo, 'rb'):
        peers = [listener.accept()[0] for _ in range(3)]
        for client in clients:
            assert 'return' in client.reply()
    labels = {c['label'] for c in vm.qmp.cmd('query-chardev')}
    assert labels >= {'fifo', 'full', 'full2'}, labels
    for s in (*peers, waiting, listener, *clients):
        s.close()
    rig.unharmed()


def test_monitors(rig):
    """-mon in its forms, -qmp-pretty, and a serial line with a monitor on one socket."""
    rig.stop()
    paths = {name: rig.path('mon-' + name) for name in ('qmp', 'hmp', 'pretty', 'mux', 'short')}

    def server(name):
        return f'socket,id={name},path={paths[name]},server=on,wait=off'

    vm = VM(BINARY, ['-m', '32M', '-bios', rig.payload, '-chardev', server('qmp'),
                     '-mon', 'chardev=qmp,mode=control', '-chardev', server('hmp'), '-mon', 'hmp',
                     '-chardev', server('pretty'), '-mon', 'pretty,mode=control,pretty=on',
                     '-chardev', server('mux') + ',mux=on', '-mon', 'mux',
                     '-qmp-pretty', f'unix:{paths["short"]},server=on,wait=off'])
    with vm:
        wait_status(vm.qmp, 'running')
        assert 'running' in QMP(paths['qmp']).cmd('query-status')
        for name in 'pretty', 'short':
            s = socket.socket(socket.AF_UNIX)
            s.connect(paths[name])
            assert s.recv(65536).startswith(b'{\r\n    "QMP": {'), name
            s.close()
        def filename():
            return next(c['filename'] for c in vm.qmp.cmd('query-chardev') if c['label'] == 'hmp')

        shown = f'unix:{paths["hmp"]},server=on'
        assert filename() == 'disconnected:' + shown
        hmp = Serial(paths['hmp'])
        hmp.expect('(qemu) ')
        assert filename() == shown
        one_more = Serial(paths['hmp'])
        one_more.expect('(qemu) ')
        one_more.close()
        hmp.send('info version\n')
        hmp.expect('\n(qemu) ')
        assert filename() == shown
        hmp.send('info chardev\n')
        said = hmp.expect('\n(qemu) ')
        assert 'mux: filename=mux\r\n' in said and 'mux-base: filename=' in said, said
        mux = Serial(paths['mux'])
        mux.send('info status\n')
        mux.expect('VM status: running')
        mux.send('\x01h')
        mux.expect('C-a C-a')
        mux.close()
        hmp.close()
        while filename() != 'disconnected:' + shown:
            pass


def test_descriptor_sets(rig):
    """An image that the client has opened: it is read and written through the set."""
    rig.start()
    qmp = rig.vm.qmp
    path = rig.image('set.qcow2')
    with open(path, 'r+b') as both, open(path, 'rb') as readonly:
        got = with_fds(qmp, [both.fileno()], 'add-fd', fdset_id=1, opaque='rdwr:set')
        assert got['fdset-id'] == 1
        with_fds(qmp, [readonly.fileno()], 'add-fd', fdset_id=1)
    listed = qmp.cmd('query-fdsets')
    assert [len(s['fds']) for s in listed] == [2] and listed[0]['fds'][0]['opaque'] == 'rdwr:set'
    fails(lambda: qmp.cmd('blockdev-add', driver='file', node_name='f', filename='/dev/fdset/9'),
          "Could not open '/dev/fdset/9': No such file or directory")
    qmp.cmd('blockdev-add', driver='qcow2', node_name='d',
            file={'driver': 'file', 'filename': '/dev/fdset/1'})
    qmp.run_job('snapshot-save', 'save', tag='t', vmstate='d', devices=['d'])
    qmp.cmd('blockdev-del', node_name='d')
    qmp.cmd('blockdev-add', driver='qcow2', node_name='d', read_only=True,
            file={'driver': 'file', 'filename': '/dev/fdset/1'})
    qmp.cmd('blockdev-del', node_name='d')
    qmp.cmd('remove-fd', fdset_id=1)
    assert qmp.cmd('query-fdsets') == []
    info = subprocess.run(['qemu-img', 'snapshot', '-l', path], check=True, capture_output=True,
                          text=True).stdout
    assert ' t ' in info, info
    subprocess.run(['qemu-img', 'check', '-q', path], check=True)
    rig.unharmed()


def test_add_fd(rig):
    """The same with descriptors that the program inherits."""
    rig.stop()
    path, qmp_path = rig.image('inherited.qcow2'), rig.path('qmp-add-fd')
    with open(path, 'r+b') as image:
        process = subprocess.Popen(
            [BINARY, '-M', 'none', '-display', 'none', '-nodefaults',
             '-add-fd', f'fd={image.fileno()},set=5,opaque=from outside',
             '-blockdev', 'driver=qcow2,node-name=d,file.driver=file,file.filename=/dev/fdset/5',
             '-qmp', f'unix:{qmp_path},server=on,wait=off'],
            pass_fds=[image.fileno()], stdin=subprocess.DEVNULL)
    qmp = QMP(qmp_path)
    assert qmp.cmd('query-fdsets')[0]['fds'][0]['opaque'] == 'from outside'
    node, = [n for n in qmp.cmd('query-named-block-nodes') if n['node-name'] == 'd']
    assert node['image']['virtual-size'] == 64 << 20
    qmp.cmd('quit')
    qmp.close()
    assert process.wait(30) == 0


def main():
    rig = Rig(BINARY)
    try:
        tap.run(sys.modules[__name__], rig, needs_guest=False)
    finally:
        rig.stop()
        rig.dir.cleanup()


main()
