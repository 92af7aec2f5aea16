#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Snapshots of things that do not fit: nodes and tags that are not there, another machine's
state, a damaged stream, requests full of rubbish.  One clear error each; the guest runs on.

usage: bad-input.py KF-SYSTEM
"""

import json
import random
import socket
import struct
import subprocess
import sys

from kfvm import QMPError
from rig import Rig, check_image, fails, on, saved_by, tags
import tap

CLUSTER = 65536


def test_nodes_and_tags(rig):
    qmp = rig.running()
    one, two = rig.image('one.qcow2'), rig.image('two.qcow2')
    raw = rig.path('raw')
    with open(raw, 'wb') as file:
        file.truncate(1 << 20)
    rig.add('one', one)
    rig.add('two', two)
    rig.add('ro', rig.image('ro.qcow2'), read_only=True)
    qmp.cmd('blockdev-add', driver='raw', node_name='raw',
            file={'driver': 'file', 'filename': raw})

    def save(tag, *nodes, vmstate=None):
        return lambda: qmp.run_job('snapshot-save', 'j', tag=tag, vmstate=vmstate or nodes[0],
                                   devices=list(nodes))

    fails(save('t', 'none'), "No block device node 'none'")
    fails(save('t', 'one', 'none'), "No block device node 'none'")
    fails(save('t', 'one', vmstate='two'), "vmstate block device 'two' does not exist")
    fails(save('t', 'one', vmstate='none'), "vmstate block device 'none' does not exist")
    fails(save('t', 'raw'), "Device 'raw' is writable but does not support snapshots")
    fails(save('t', 'one', 'raw'), "Device 'raw' is writable but does not support snapshots")
    fails(save('t', 'ro'), 'ro')
    fails(save('t', 'one', 'ro'), 'ro')
    fails(save('', 'one'), "'tag'")
    fails(save('x' * 5000, 'one'), "'tag'")
    fails(lambda: qmp.cmd('snapshot-save', job_id='', tag='t', **on('one')), 'ID')
    assert qmp.cmd('query-jobs') == []
    assert 'STOP' not in [e['event'] for e in qmp.events]
    rig.unharmed()

    save('both', 'one', 'two')()
    save('same', 'one', 'one')()
    save('ä€ %s\n"', 'one')()
    fails(save('both', 'two'), "Snapshot 'both' already exists in one or more devices")
    fails(lambda: qmp.run_job('snapshot-load', 'j', tag='same', **on('one', 'two')),
          "Snapshot 'same' does not exist in one or more devices")
    fails(lambda: qmp.run_job('snapshot-load', 'j', tag='none', **on('one')),
          "Snapshot 'none' does not exist in one or more devices")
    fails(lambda: qmp.run_job('snapshot-load', 'j', tag='both', **on('two')), 'disk-only')
    rig.unharmed()
    qmp.run_job('snapshot-load', 'j', tag='both', **on('one'))  # the other stays as it is
    qmp.run_job('snapshot-load', 'j', tag='both', **on('one', 'two'))
    qmp.run_job('snapshot-load', 'j', tag='ä€ %s\n"', **on('one'))
    qmp.run_job('snapshot-delete', 'j', tag='none', devices=['one', 'two'])
    qmp.run_job('snapshot-delete', 'j', tag='both', devices=['one', 'two'])
    rig.unharmed()
    for node in 'one', 'two', 'ro', 'raw':
        rig.delete(node)
    for path in one, two:
        check_image(path)
    assert tags(two) == []


def test_another_machine(rig):
    """RAM of another size, a disk too many, a disk too few."""
    rig.running()
    path, disk = rig.image('machine.qcow2'), rig.image('disk.qcow2')
    saved_by(rig)(path)
    device = ['-blockdev', f'driver=qcow2,node-name=d,file.driver=file,file.filename={disk}',
              '-device', 'virtio-blk-device,drive=d']
    for extra, memory, text in (([], '64M', 'riscv_virt_board.ram'),
                                ([], '24M', 'riscv_virt_board.ram'),
                                (device, '32M', 'virtio')):
        rig.start(*extra, memory=memory)
        rig.add('node', path)
        fails(lambda: rig.vm.qmp.run_job('snapshot-load', 'l', tag='t', **on('node')), text)
        assert rig.vm.qmp.hmp('loadvm t').startswith('Error: ')
        rig.unharmed()
        rig.delete('node')
    rig.start(*device)
    rig.add('node', path)
    rig.vm.qmp.run_job('snapshot-save', 's', tag='more', **on('node'))
    rig.delete('node')
    rig.start()
    rig.add('node', path)
    fails(lambda: rig.vm.qmp.run_job('snapshot-load', 'l', tag='more', **on('node')), 'virtio')
    rig.unharmed()
    rig.vm.qmp.run_job('snapshot-load', 'l', tag='t', **on('node'))
    rig.unharmed()
    rig.delete('node')
    check_image(path)


def state_clusters(path):
    """File offsets of the clusters of the only snapshot's machine state, in order."""
    with open(path, 'rb') as file:
        data = file.read()
    size, = struct.unpack_from('>Q', data, 24)
    table, = struct.unpack_from('>Q', data, 64)
    l1_offset, l1_size = struct.unpack_from('>QI', data, table)
    per_table = CLUSTER // 8
    found = {}
    for i in range(l1_size):
        l2 = struct.unpack_from('>Q', data, l1_offset + i * 8)[0] & 0x00fffffffffffe00
        if not l2:
            continue
        for j, entry in enumerate(struct.unpack_from(f'>{per_table}Q', data, l2)):
            host = entry & 0x00fffffffffffe00
            if host and (i * per_table + j) * CLUSTER >= size:
                found[(i * per_table + j) * CLUSTER - size] = host
    return [found[k] for k in sorted(found)]


def test_damaged_stream(rig):
    """Bytes of header, bitmap and devices are changed at random: an error or a guest that
    has been loaded, and never a monitor that is gone."""
    rng = random.Random(20)
    rig.running()
    path, bad = rig.image('sound.qcow2'), rig.path('bad.qcow2')
    saved_by(rig)(path)
    clusters = state_clusters(path)
    with open(path, 'rb') as file:
        sound = file.read()
    # RAM's pages are between the first cluster and the last one.
    head, tail = clusters[0], clusters[-1]
    used = [len(sound[c:c + CLUSTER].rstrip(b'\0')) for c in (head, tail)]
    errors = 0
    for i in range(120):
        data = bytearray(sound)
        for _ in range(rng.choice((1, 1, 4))):
            cluster, length = rng.choice(((head, used[0]), (tail, used[1])))
            at = cluster + rng.randrange(min(length, 4096 if i % 2 else length))
            data[at] ^= 1 << rng.randrange(8) if i % 3 else rng.randrange(1, 256)
        with open(bad, 'wb') as file:
            file.write(data)
        qmp = rig.running()
        rig.add('bad', bad)
        try:
            qmp.run_job('snapshot-load', f'l{i}', tag='t', **on('bad'))
        except QMPError as error:
            errors += 1
            assert error.desc and '\n' not in error.desc, error.desc
            rig.unharmed()
            rig.delete('bad')
        else:
            qmp.cmd('query-status')
            rig.start()  # what the guest does with such registers is its own affair
    assert errors > 8, errors


def test_zeroed_and_cut_stream(rig):
    rig.running()
    path, bad = rig.image('sound.qcow2'), rig.path('bad.qcow2')
    saved_by(rig)(path)
    clusters = state_clusters(path)
    with open(path, 'rb') as file:
        sound = file.read()
    for cluster in (clusters[0], clusters[-1]):
        for fill in (b'\0', b'\xff', b'QEVM'):
            data = bytearray(sound)
            data[cluster:cluster + CLUSTER] = (fill * CLUSTER)[:CLUSTER]
            with open(bad, 'wb') as file:
                file.write(data)
            qmp = rig.running()
            rig.add('bad', bad)
            fails(lambda: qmp.run_job('snapshot-load', 'l', tag='t', **on('bad')))
            rig.unharmed()
            rig.delete('bad')


ARGUMENTS = {
    'snapshot-save': {'job-id': 'j', 'tag': 't', 'vmstate': 'n', 'devices': ['n'],
                      'mode': 'live', 'bounce-limit': 65536},
    'snapshot-load': {'job-id': 'j', 'tag': 't', 'vmstate': 'n', 'devices': ['n'], 'lazy': True},
    'snapshot-delete': {'job-id': 'j', 'tag': 't', 'devices': ['n']},
    'job-cancel': {'id': 'j'}, 'job-pause': {'id': 'j'}, 'job-resume': {'id': 'j'},
    'job-dismiss': {'id': 'j'}, 'job-finalize': {'id': 'j'}, 'job-complete': {'id': 'j'},
    'blockdev-add': {'driver': 'qcow2', 'node-name': 'n',
                     'file': {'driver': 'file', 'filename': '/nonexistent/x'}},
    'blockdev-del': {'node-name': 'n'},
    'human-monitor-command': {'command-line': 'info status'},
}
WRONG = (None, True, 17, -1, 1.5, 1e300, 2**64, '', 'x' * 3000, [], [[]], {}, {'a': {}}, ['n', 1])


def test_wrong_types(rig):
    """Each argument with a value of each other type, missing, and one that is not known."""
    qmp = rig.running()
    for command, good in ARGUMENTS.items():
        for name, value in good.items():
            for wrong in WRONG:
                if isinstance(wrong, type(value)) and not isinstance(wrong, (list, dict)):
                    continue
                qmp.send({'execute': command, 'arguments': {**good, name: wrong}})
                reply = qmp.reply()
                assert reply['error']['class'] in ('GenericError', 'DeviceNotFound'), reply
        fails(lambda: qmp.cmd(command, **{k.replace('-', '_'): v for k, v in good.items()},
                              unknown=1), "Parameter 'unknown' is unexpected")
    fails(lambda: qmp.cmd('snapshot-save', job_id='j', tag=1, **on('n')),
          "Invalid parameter type for 'tag', expected: string")
    fails(lambda: qmp.cmd('snapshot-save', job_id='j', tag='t', vmstate='n', devices='n'),
          "Invalid parameter type for 'devices', expected: array")
    rig.unharmed()


def mutated(rng):
    command, arguments = rng.choice(list(ARGUMENTS.items()))
    text = bytearray(json.dumps({'execute': command, 'arguments': arguments}).encode())
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(len(text))
        what = rng.randrange(4)
        if what == 0:
            text[at] = rng.randrange(256)
        elif what == 1:
            del text[at]
        elif what == 2:
            text.insert(at, rng.choice(b'{}[]",:\\\'0e-\xff\0\n'))
        else:
            text[at:at] = text[at:at + rng.randrange(20)]
    return bytes(text)


def test_ten_thousand_mutated_requests(rig):
    """One session talks rubbish; another is answered as ever, and the first works after."""
    rng = random.Random(7)
    rig.running()
    rubbish, other = rig.vm.session(1), rig.vm.qmp
    for i in range(100):
        batch = b'\n'.join(mutated(rng) for _ in range(100))
        # 0xff resets the parser, so that each batch has an end that is seen
        rubbish.sock.sendall(batch + b'\n\xff\n{"execute": "query-version", "id": %d}\n' % i)
        assert other.cmd('query-status')['status'] == 'running'
        while rubbish.reply().get('id') != i:
            pass
    assert rubbish.cmd('query-status')['status'] == 'running'
    rubbish.close()
    for job in other.cmd('query-jobs'):
        other.cmd('job-dismiss', id=job['id'])
    rig.unharmed()


def test_disconnects(rig):
    """A session that goes in the middle of a request, of a reply, of the greeting."""
    other = rig.running()
    for data in (b'', b'{', b'{"execute": "qmp_capabilities"}', b'{"execute": "query-qmp-schema"}',
                 b'{"execute": "qmp_capabilities"}' + b'{"execute": "query-qmp-schema"}' * 20,
                 b'{"execute": "qmp_capabilities"}{"execute": "human-monitor-command", '
                 b'"arguments": {"command-line": "info', b'"' + b'x' * 100000, b'[' * 100000):
        for how in (socket.SHUT_WR, socket.SHUT_RDWR, None):
            client = socket.socket(socket.AF_UNIX)
            client.connect(rig.vm.qmp_paths[1])
            try:
                client.sendall(data)
                if how is not None:
                    client.shutdown(how)
            except OSError:
                pass  # it was thrown out
            client.close()
            assert other.cmd('query-status')['status'] == 'running'
    session = rig.vm.session(1)
    assert session.cmd('query-status')['status'] == 'running'
    session.close()
    rig.unharmed()


def test_hmp_rubbish(rig):
    rng = random.Random(3)
    qmp = rig.running()
    for line in ('', ' ', 'nonsense', 'savevm', 'loadvm', 'delvm', 'loadvm none', 'delvm none',
                 'savevm x', 'info', 'info nonsense', 'savevm ' + 'y' * 300, 'stop now',
                 'savevm "', 'loadvm \\', 'help ' * 200, 'info snapshots x', 'cont 1 2 3'):
        assert isinstance(qmp.hmp(line), str), line
    words = ['savevm', 'loadvm', 'delvm', 'info', 'snapshots', 'help', '-d', '-x', '"', '\\', '%s%n',
             '\t', '\x01', '\x7f', 'ä', '0x', '99999999999999999999', '/nonexistent']
    for _ in range(500):
        qmp.hmp(' '.join(rng.choices(words, k=rng.randrange(1, 5))))
    rig.unharmed()


def main():
    rig = Rig(sys.argv[1])
    try:
        tap.run(sys.modules[__name__], rig, needs_guest=False)
    finally:
        rig.stop()
        rig.dir.cleanup()


main()
