#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Migration between two processes, to and from files, programs, descriptors and snapshots:
a guest that stamps its memory in order finds any page that is not of the instant when it
was stopped; the disk is shared, and only one side has it at a time.

usage: migrate.py KF-SYSTEM
"""

import array
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile

import bare
from kfvm import QMPError, VM, disk_args
from rig import fails
import tap

BINARY = sys.argv[1]
MIB = 8
ENDS = ('completed', 'failed', 'cancelled')


class Pair:
    def __init__(self):
        self.dir = tempfile.TemporaryDirectory(prefix='kfmig-')
        self.payload = self.path('payload')
        bare.write(self.payload, MIB)
        self.disk = self.path('disk.qcow2')
        subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', self.disk, '16M'], check=True)
        self.vms = []

    def path(self, name):
        return os.path.join(self.dir.name, name)

    def start(self, *extra):
        vm = VM(BINARY, ['-m', '16M', '-bios', self.payload, *disk_args(self.disk), *extra])
        self.vms.append(vm)
        vm.qmp.timeout = 20
        return vm

    def source(self, *capabilities):
        vm = self.start()
        vm.serial.expect('hh')
        switch(vm, 'events', *capabilities)
        return vm

    def target(self, *extra, defer=True):
        vm = self.start(*(['-incoming', 'defer'] if defer else []), *extra)
        if defer:
            switch(vm, 'events')
        return vm

    def stop(self):
        for vm in self.vms:
            if not vm.stderr.closed:
                vm.kill()
        self.vms = []


def switch(vm, *names, on=True):
    vm.qmp.cmd('migrate-set-capabilities',
               capabilities=[{'capability': name, 'state': on} for name in names])


def start(vm, uri):
    vm.qmp.events.clear()
    vm.qmp.cmd('migrate', uri=uri)


def end(vm):
    """Waits for the end of a migration with events; returns query-migrate's answer."""
    vm.qmp.wait_event('MIGRATION', match=lambda d: d['status'] in ENDS)
    return vm.qmp.cmd('query-migrate')


def sent(vm):
    info = end(vm)
    assert info['status'] == 'completed', info
    return info


def status(vm):
    return vm.qmp.cmd('query-status')['status']


def beats(vm):
    """The guest runs here, and its memory is what it wrote."""
    vm.serial.drain()
    vm.serial.expect('hhh', 20)
    assert b'B' not in vm.serial.log, 'the guest found damage'


def hand_over(vm, name, fd):
    command = json.dumps({'execute': 'getfd', 'arguments': {'fdname': name}}).encode()
    vm.qmp.sock.sendmsg([command], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [fd]))])
    return vm.qmp.reply()


def order(vm):
    """What the events so far were, with a status for MIGRATION."""
    return [e['data']['status'] if e['event'] == 'MIGRATION' else e['event']
            for e in vm.qmp.events if e['event'] in ('MIGRATION', 'STOP', 'RESUME')]


def disk_is_given_away(p, vm):
    """Whatever would read or write the disk is refused at once."""
    def action(kind, **data):
        return {'type': kind, 'data': {k.replace('_', '-'): v for k, v in data.items()}}

    vm.qmp.cmd('blockdev-add', driver='null-co', node_name='copy', size=16 << 20)
    one = {'vmstate': 'disk0', 'devices': ['disk0']}
    for command, args in (
            ('snapshot-save', {'job_id': 's', 'tag': 't', **one}),
            ('snapshot-load', {'job_id': 's', 'tag': 't', **one}),
            ('snapshot-delete', {'job_id': 's', 'tag': 't', 'devices': ['disk0']}),
            ('transaction', {'actions': [action('snapshot-save', job_id='s', tag='t', **one)]}),
            ('transaction', {'actions': [action('blockdev-snapshot-internal-sync', device='disk0',
                                                name='t')]}),
            ('blockdev-snapshot-sync', {'node_name': 'disk0', 'snapshot_node_name': 'o',
                                        'snapshot_file': p.path('o.qcow2')}),
            ('blockdev-backup', {'job_id': 'b', 'device': 'disk0', 'target': 'copy',
                                 'sync': 'full'}),
            ('block-export-add', {'type': 'fuse', 'id': 'e', 'node_name': 'disk0',
                                  'mountpoint': p.path('disk.qcow2')}),
            ('block_resize', {'node_name': 'disk0', 'size': 32 << 20})):
        fails(lambda c=command, a=args: vm.qmp.cmd(c, **a),
              'is inactive: the other side of a migration uses it')
    vm.qmp.cmd('blockdev-del', node_name='copy')


def test_unix_and_the_disk_changes_hands(p):
    where = 'unix:' + p.path('m')
    source, target = p.source(), p.target()
    target.qmp.cmd('migrate-incoming', uri=where)
    assert order(target) == ['setup'], order(target)  # before the answer: libvirt counts on it
    switch(target, 'events')  # capabilities may come until the source does
    assert target.qmp.cmd('query-migrate') == {
        'socket-address': [{'type': 'unix', 'path': p.path('m')}]}
    fails(lambda: target.qmp.cmd('migrate-incoming', uri=where), 'already been started')
    fails(lambda: target.qmp.cmd('migrate', uri=where), 'waiting for an incoming migration')
    assert status(target) == 'inmigrate'
    start(source, where)
    info = sent(source)
    assert info['ram']['total'] == 16 << 20 and info['ram']['normal'] >= MIB * 256
    assert info['ram']['remaining'] == 0 and info['ram']['duplicate'] > 0
    end(target)
    assert order(source)[:4] == ['setup', 'active', 'STOP', 'device'], order(source)
    beats(target)
    assert status(source) == 'postmigrate'
    fails(lambda: source.qmp.cmd('migrate', uri=where), 'paused due to previous migration')
    fails(lambda: source.qmp.cmd('cont'), 'Failed to get "write" lock')
    disk_is_given_away(p, source)
    # On to a third process; and back to the second when that one is gone.
    third = p.target()
    third.qmp.cmd('migrate-incoming', uri=where)
    start(target, where)
    sent(target)
    end(third)
    beats(third)
    third.quit()
    target.qmp.cmd('cont')  # the disk is free now
    beats(target)
    assert target.qmp.cmd('query-status')['status'] == 'running'


def test_tcp_with_an_answer_and_a_pause(p):
    source, target = p.source('return-path', 'pause-before-switchover'), p.target('-S')
    target.qmp.cmd('migrate-incoming', channels=[{'channel-type': 'main', 'addr': {
        'transport': 'socket', 'type': 'inet', 'host': '127.0.0.1', 'port': '0'}}])
    port = target.qmp.cmd('query-migrate')['socket-address'][0]['port']
    assert int(port) > 0
    start(source, f'tcp:127.0.0.1:{port}')
    source.qmp.wait_event('MIGRATION', match=lambda d: d['status'] == 'pre-switchover')
    assert status(source) == 'finish-migrate'
    fails(lambda: source.qmp.cmd('cont'), 'Migration is not finalized yet')
    fails(lambda: source.qmp.cmd('migrate-continue', state='device'),
          'Migration not in expected state: pre-switchover')
    source.qmp.cmd('migrate-continue', state='pre-switchover')
    sent(source)
    end(target)
    assert status(target) == 'paused'
    target.qmp.cmd('cont')
    beats(target)


def test_descriptor(p):
    source, target = p.source('return-path'), p.target()
    a, b = socket.socketpair()
    fails(lambda: source.qmp.cmd('getfd', fdname='x'), 'No file descriptor supplied')
    assert 'digit' in hand_over(source, '1x', a.fileno())['error']['desc']
    hand_over(source, 'gone', a.fileno())
    source.qmp.cmd('closefd', fdname='gone')
    fails(lambda: source.qmp.cmd('closefd', fdname='gone'), "named 'gone' not found")
    fails(lambda: source.qmp.cmd('migrate', uri='fd:gone'), "'gone' has not been found")
    assert 'return' in hand_over(source, 'mine', a.fileno())
    assert 'return' in hand_over(target, 'yours', b.fileno())
    a.close()
    b.close()
    target.qmp.cmd('migrate-incoming', uri='fd:yours')
    start(source, 'fd:mine')
    sent(source)
    end(target)
    beats(target)


def test_program_and_back(p):
    source = p.source()
    start(source, f'exec:gzip -1 > {p.path("state.gz")}')
    sent(source)
    source.qmp.cmd('cont')
    beats(source)
    start(source, 'exec:cat > /dev/null; exit 7')
    info = end(source)
    assert info['status'] == 'failed' and 'exit status 7' in info['error-desc'], info
    beats(source)
    source.quit()
    target = p.target('-incoming', f'exec:gzip -dc {p.path("state.gz")}', defer=False)
    beats(target)


def reset_waiting(vm, ask):
    """A reset of a machine that is not there yet is an event and no more."""
    vm.qmp.events.clear()
    ask()
    vm.qmp.wait_event('RESET')
    assert status(vm) == 'inmigrate'


def test_reset_before_the_machine_is_here(p):
    where = 'unix:' + p.path('m')
    source, target = p.source(), p.target('-S')
    reset_waiting(target, lambda: target.qmp.cmd('system_reset'))
    target.qmp.cmd('migrate-incoming', uri=where)
    reset_waiting(target, lambda: target.qmp.hmp('system_reset'))
    # And while its RAM is filled.
    source.qmp.cmd('migrate-set-parameters', max_bandwidth=1 << 20)
    target.qmp.events.clear()
    start(source, where)
    target.qmp.wait_event('MIGRATION', match=lambda d: d['status'] == 'active')
    reset_waiting(target, lambda: target.qmp.cmd('system_reset'))
    target.qmp.cmd('cont')
    assert status(target) == 'inmigrate'
    source.qmp.cmd('migrate-set-parameters', max_bandwidth=1 << 30)
    sent(source)
    end(target)
    beats(target)


def test_paused_stays_paused(p):
    source = p.source()
    source.qmp.cmd('stop')
    start(source, 'file:' + p.path('paused'))
    sent(source)
    source.quit()
    target = p.target()
    target.qmp.cmd('migrate-incoming', uri='file:' + p.path('paused'))
    end(target)
    assert status(target) == 'paused'
    target.qmp.cmd('cont')
    beats(target)


def test_files(p):
    """mapped-ram and streams, after an offset, in the background and not, past the cache."""
    source = p.source()
    cases = []
    for mapped in (False, True):
        for background in (True, False):
            for offset in (0, 1 << 20):
                name = p.path(f'f{len(cases)}')
                with open(name, 'wb') as file:
                    file.write(b'x' * offset + b'old content')
                switch(source, 'mapped-ram', on=mapped)
                switch(source, 'background-snapshot', on=background)
                source.qmp.cmd('migrate-set-parameters', direct_io=mapped and background)
                start(source, f'file:{name},offset={offset}')
                info = sent(source)
                assert status(source) == ('running' if background else 'postmigrate')
                if background:
                    assert info['downtime'] < 1000
                else:
                    source.qmp.cmd('cont')
                beats(source)
                with open(name, 'rb') as file:
                    assert file.read(offset + 4) == b'x' * offset + b'QEVM'
                cases.append((name, offset, mapped))
    source.quit()
    for name, offset, mapped in cases:
        target = p.target()
        switch(target, 'mapped-ram', on=mapped)
        target.qmp.cmd('migrate-incoming', uri=f'file:{name},offset={offset}')
        end(target)
        beats(target)
        target.quit()


def test_snapshots(p):
    source = p.source()
    start(source, 'snapshot:node=disk0,name=stopped')
    assert sent(source)['ram']['total'] == 16 << 20
    assert status(source) == 'postmigrate'
    source.qmp.cmd('cont')
    beats(source)
    start(source, 'snapshot:node=disk0,name=stopped')
    assert 'already exists' in end(source)['error-desc']
    switch(source, 'background-snapshot')
    start(source, 'snapshot:node=disk0,name=live,compress=on')
    sent(source)
    beats(source)
    fails(lambda: source.qmp.cmd('migrate', uri='snapshot:node=disk0,name=x,lazy=on'), 'incoming')
    fails(lambda: source.qmp.cmd('migrate', uri='snapshot:node=nope,name=x'), 'nope')
    source.quit()
    for name in ('stopped', 'live'):
        target = p.target('-incoming', f'snapshot:node=disk0,name={name}', defer=False)
        beats(target)
        target.quit()


def test_limit_and_progress_in_the_background(p):
    """Of a snapshot and of a stream: bandwidth is kept, figures move, and the limit can be lifted."""
    source = p.source('background-snapshot')
    for uri in ('snapshot:node=disk0,name=t', 'exec:cat > /dev/null', 'file:' + p.path('f')):
        source.qmp.cmd('migrate-set-parameters', max_bandwidth=1 << 20)
        start(source, uri)
        info = source.qmp.cmd('query-migrate')
        while info['status'] == 'setup' or not info['ram']['transferred']:
            beats(source)
            info = source.qmp.cmd('query-migrate')
        beats(source)
        assert info['status'] == 'active' and info['ram']['total'] == 16 << 20, info
        assert 0 < info['ram']['remaining'] < 16 << 20 and info['ram']['normal'], info
        source.qmp.cmd('migrate-set-parameters', max_bandwidth=0)
        assert sent(source)['ram']['remaining'] == 0
        beats(source)
    # It holds for a guest that runs; one that stands still is done as fast as can be.
    switch(source, 'background-snapshot', on=False)
    source.qmp.cmd('migrate-set-parameters', max_bandwidth=1000)
    start(source, 'snapshot:node=disk0,name=u')
    sent(source)
    source.qmp.cmd('cont')
    beats(source)


def test_cancel_and_lost_peers(p):
    """Whatever happens to the channel, the guest runs on."""
    source = p.source()
    server = socket.socket(socket.AF_UNIX)
    server.bind(p.path('s'))
    server.listen(1)
    source.qmp.cmd('migrate-set-parameters', max_bandwidth=100000)
    for step in ('unread', 'limited', 'closed', 'refused'):
        if step == 'limited':
            start(source, 'exec:cat > /dev/null')
        else:
            start(source, 'unix:' + p.path('s' if step != 'refused' else 'none'))
        if step in ('unread', 'closed'):
            peer = server.accept()[0]
            peer.recv(100)
        if step in ('unread', 'limited'):
            source.qmp.wait_event('MIGRATION', match=lambda d: d['status'] == 'active')
            fails(lambda: source.qmp.cmd('migrate', uri='exec:true'), 'in progress')
            fails(lambda: switch(source, 'return-path'), 'in progress')
            source.qmp.cmd('migrate_cancel')
        if step in ('closed', 'unread'):
            peer.close()
        info = end(source)
        assert info['status'] == ('cancelled' if step in ('unread', 'limited') else 'failed'), info
        assert ('error-desc' in info) == (info['status'] == 'failed')
        beats(source)
        source.qmp.cmd('migrate-set-parameters', max_bandwidth=0)
    switch(source, 'pause-before-switchover')
    start(source, 'exec:cat > /dev/null')
    source.qmp.wait_event('MIGRATION', match=lambda d: d['status'] == 'pre-switchover')
    source.qmp.cmd('migrate_cancel')
    assert end(source)['status'] == 'cancelled'
    beats(source)
    switch(source, 'pause-before-switchover', on=False)
    # A full disk: the state is not kept in part, and the disks come back.
    start(source, 'file:/dev/full')
    assert 'No space left' in end(source)['error-desc']
    beats(source)


def test_commands_do_not_wait_for_a_peer(p):
    """What is wrong is refused as ever, what is right at once and by the migration's name."""
    source = p.source()
    q = source.qmp
    server = socket.socket(socket.AF_UNIX)
    server.bind(p.path('unread'))
    server.listen(1)
    q.cmd('blockdev-add', driver='null-co', node_name='copy', size=16 << 20)
    subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', p.path('o.qcow2'), '16M'], check=True)
    q.cmd('blockdev-add', driver='qcow2', node_name='o', backing=None,
          file={'driver': 'file', 'filename': p.path('o.qcow2')})
    start(source, 'unix:' + p.path('unread'))
    q.wait_event('MIGRATION', match=lambda d: d['status'] == 'active')
    busy = 'not allowed while migrate is under way'
    save = {'type': 'snapshot-save', 'data': {'job-id': 's', 'tag': 'late', 'vmstate': 'disk0',
                                              'devices': ['disk0']}}
    internal = {'type': 'blockdev-snapshot-internal-sync',
                'data': {'device': 'disk0', 'name': 'late'}}
    for command, wrong, error, right in (
            ('blockdev-snapshot', {'node': 'nope', 'overlay': 'o'}, 'nope',
             {'node': 'disk0', 'overlay': 'o'}),
            ('blockdev-snapshot-sync', {'node_name': 'nope', 'snapshot_node_name': 'n',
                                        'snapshot_file': p.path('n.qcow2')}, 'nope',
             {'node_name': 'disk0', 'snapshot_node_name': 'n', 'snapshot_file': p.path('n.qcow2')}),
            ('blockdev-snapshot-delete-internal-sync', {'device': 'disk0'}, 'must be provided',
             {'device': 'disk0', 'id': '1'}),
            ('blockdev-backup', {'job_id': 'b', 'device': 'disk0', 'target': 'disk0',
                                 'sync': 'full'}, 'cannot be the same',
             {'job_id': 'b', 'device': 'disk0', 'target': 'copy', 'sync': 'full'}),
            ('block_resize', {'node_name': 'nope', 'size': 32 << 20}, 'nope',
             {'node_name': 'disk0', 'size': 32 << 20}),
            ('transaction', {'actions': [internal, {'type': 'blockdev-snapshot', 'data': {
                'node': 'disk0', 'overlay': 'nope'}}]}, 'nope', {'actions': [internal]}),
            ('transaction', {'actions': [save, {'type': 'blockdev-snapshot', 'data': {
                'node': 'disk0', 'overlay': 'nope'}}]}, 'nope', {'actions': [save]})):
        fails(lambda c=command, a=wrong: q.cmd(c, **a), error)
        fails(lambda c=command, a=right: q.cmd(c, **a), busy)
    q.cmd('blockdev-del', node_name='copy')
    assert busy in q.hmp('savevm late')
    assert not os.path.exists(p.path('n.qcow2'))
    # A job with a name may wait: whoever has begun it can end it.
    q.cmd('snapshot-save', job_id='s', tag='late', vmstate='disk0', devices=['disk0'])
    assert q.cmd('query-jobs')[0]['status'] == 'created'
    q.cmd('job-cancel', id='s')
    q.cmd('migrate_cancel')
    assert end(source)['status'] == 'cancelled'
    q.cmd('blockdev-snapshot', node='disk0', overlay='o')
    beats(source)


def test_exported_disk_stays(p):
    """A disk that somebody reads through an export is not given away."""
    source = p.source()
    with open(p.path('seen'), 'wb'):
        pass
    try:
        source.qmp.cmd('block-export-add', type='fuse', id='e', node_name='disk0',
                       mountpoint=p.path('seen'))
    except QMPError as error:
        raise tap.Skip(error.desc) from error
    start(source, 'exec:cat > /dev/null')
    assert "in use by export 'e'" in end(source)['error-desc']
    beats(source)
    with open(p.path('seen'), 'rb') as file:
        assert file.read(512) == bytes(512)
    source.qmp.cmd('block-export-del', id='e')
    start(source, 'exec:cat > /dev/null')
    sent(source)


def test_cancel_at_once(p):
    """It may not have begun yet; it ends all the same, and the next one can begin."""
    source = p.source('background-snapshot')
    source.qmp.cmd('migrate-set-parameters', max_bandwidth=100000)
    for uri in ('exec:cat > /dev/null', 'snapshot:node=disk0,name=t') * 10:
        source.qmp.events.clear()
        source.qmp.sock.sendall(
            json.dumps({'execute': 'migrate', 'arguments': {'uri': uri}}).encode() +
            b'{"execute": "migrate_cancel"}')
        assert [source.qmp.reply() for _ in range(2)] == [{'return': {}}] * 2
        assert end(source)['status'] == 'cancelled'
    beats(source)


def test_a_destination_that_refuses(p):
    """With an answer wanted, a destination that cannot take the machine gives it back."""
    source = p.source('return-path')
    target = p.target('-m', '32M')
    target.qmp.cmd('migrate-incoming', uri='unix:' + p.path('m'))
    start(source, 'unix:' + p.path('m'))
    assert end(source)['status'] == 'failed'
    beats(source)
    assert target.process.wait(20) == 1
    assert 'Size mismatch: riscv_virt_board.ram' in target.errors(), target.errors()
    # It reads all of it and goes away without a word.
    server = socket.socket(socket.AF_UNIX)
    server.bind(p.path('silent'))
    server.listen(1)
    source.qmp.cmd('migrate', uri='unix:' + p.path('silent'))
    peer = server.accept()[0]
    last = b''
    while b'"page_size"' not in last:  # of the description, behind all devices
        last = last[-20:] + peer.recv(1 << 20)
    peer.close()
    assert 'destination' in end(source)['error-desc']
    beats(source)


def test_hostile_streams(p):
    """Every cut and many flipped bytes: one error, the process stays and can try again."""
    bare.write(p.payload, 1)  # little memory: the stream is read again and again
    source = p.source()
    source.qmp.cmd('stop')
    start(source, 'file:' + p.path('good'))
    sent(source)
    source.quit()
    bare.write(p.payload, MIB)
    with open(p.path('good'), 'rb') as file:
        good = file.read()
    tail = good.rindex(struct.pack('>BIBI', 0x7e, 1, 3, 1))  # where section 'ram' ends
    cuts = [*range(0, 90), 4096, len(good) // 2, *range(tail, len(good) - 100, 61)]
    bad = [good[:n] for n in cuts]
    for at in [*range(0, 60), *range(tail, tail + 600, 7)]:
        bad.append(good[:at] + bytes([good[at] ^ 0x80]) + good[at + 1:])
    target = p.target()
    failures = 0
    for n, content in enumerate(bad):
        with open(p.path('bad'), 'wb') as file:
            file.write(content)
        target.qmp.cmd('migrate-incoming', uri='file:' + p.path('bad'), exit_on_error=False)
        info = end(target)
        if info['status'] == 'completed':  # a flipped bit in a value that may be anything
            target.quit()
            target = p.target()
            continue
        assert info['error-desc'], info
        assert status(target) == 'inmigrate'
        failures += 1
    assert failures > len(bad) // 2, failures
    target.qmp.cmd('migrate-incoming', uri='file:' + p.path('good'))
    end(target)
    target.qmp.cmd('cont')
    beats(target)


def test_what_is_refused(p):
    source = p.source()
    q = source.qmp
    fails(lambda: q.cmd('migrate-incoming', uri='unix:/x'), "'-incoming' was not specified")
    fails(lambda: switch(source, 'multifd'), "Capability 'multifd' is not supported")
    fails(lambda: switch(source, 'background-snapshot', 'return-path'), 'not compatible')
    fails(lambda: q.cmd('migrate', uri='foo:'), 'valid migration protocol')
    fails(lambda: q.cmd('migrate', uri='tcp:'), "error parsing address ''")
    fails(lambda: q.cmd('migrate'), 'neither')
    for name, why in (('resume', 'no paused migration'), ('blk', "'blk'"), ('inc', "'inc'")):
        fails(lambda n=name: q.cmd('migrate', uri='exec:true', **{n: True}), why)
    fails(lambda: q.cmd('migrate-set-parameters', downtime_limit=3000000), 'downtime_limit')
    switch(source, 'mapped-ram')
    fails(lambda: q.cmd('migrate', uri='exec:cat'), 'requires seekable transport')
    assert 'mapped-ram: on' in q.hmp('info migrate_capabilities')
    for value, error in (('1M,max-passes=9', 'Invalid size 1M,max-passes=9'), ('x', 'Invalid size x')):
        assert q.hmp(f'migrate_set_parameter max-bandwidth {value}') == f'Error: {error}\r\n'
    assert q.hmp('migrate_set_parameter nope 1') == 'Error: invalid parameter value: nope\r\n'
    assert 'expects a non-negative number' in q.hmp('migrate_set_parameter downtime-limit 1,2')
    q.hmp('migrate_set_parameter max-bandwidth 5')
    assert 'max-bandwidth: 5242880 bytes/second' in q.hmp('info migrate_parameters')
    q.hmp('migrate_set_capability mapped-ram off')
    assert q.hmp('migrate "exec:cat > /dev/null"') == ''
    text = q.hmp('info migrate')
    assert 'Migration status: completed' in text and 'dirty sync count' in text, text
    assert status(source) == 'postmigrate'


def test_an_option_that_makes_no_sense(p):
    for text, error in (('foo:', 'unknown migration protocol: foo:'), ('tcp:', 'error parsing'),
                        ('exec:echo no stream', 'Not a migration stream'),
                        ('snapshot:node=nope,name=x', 'nope')):
        result = subprocess.run([BINARY, '-M', 'virt', '-m', '16M', '-display', 'none', '-nodefaults',
                                 '-bios', p.payload, '-incoming', text],
                                capture_output=True, text=True, timeout=30)
        assert result.returncode == 1 and error in result.stderr, result


def run():
    """Each test begins and ends without processes."""
    pair = Pair()
    module = sys.modules[__name__]
    for name, test in list(vars(module).items()):
        if name.startswith('test_'):
            def wrapped(_, test=test):
                try:
                    test(pair)
                finally:
                    pair.stop()
            setattr(module, name, wrapped)
    tap.run(module, pair, needs_guest=False)


if __name__ == '__main__':
    run()
