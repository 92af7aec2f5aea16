#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests at random: well formed ones with values that the schema allows or nearly so, and
ones whose text was damaged.  Every one is answered, the VM runs on, and another session is not
disturbed.  Also: an error names the member that is wrong, for every command.

usage: random-requests.py KF-SYSTEM COUNT [SEED]
"""

import json
import os
import random
import resource
import signal
import sys
import tempfile

import bare
from kfvm import VM
from schema import STRINGS, Schema
from watch import undisturbed
import tap

COUNT = int(sys.argv[2])
SEED = int(sys.argv[3]) if len(sys.argv) > 3 else 4

# Left out: what ends the program (blkverify does, at the first difference), what would mount
# something, what takes as long as it is told.
LEFT_OUT = {'quit', 'set-action', 'qmp_capabilities', 'block-export-add', 'memsave', 'pmemsave',
            'dump-guest-memory'}
FORBIDDEN = (b'quit', b'exec:', b'"q"', b'fuse', b'"/', b'latency-ns', b'delay-ns',
             b'blkverify')
LINES = ['info', 'status', 'block', 'savevm', 'delvm', 'stop', 'cont', 'help', 'chardev-add',
         'null,id=', 'chardev-remove', 'ringbuf_read', 'a', '-f', '"', '\\', '%s', '99999999999',
         'system_reset', 'info snapshots', 'info chardev', 'sendkey', 'commit', 'x /4x 0x80000000']


class Victim:
    """The VM, in a directory of its own that it cannot fill."""

    def __init__(self, binary):
        self.dir = tempfile.TemporaryDirectory(prefix='kfrandom-')
        payload = os.path.join(self.dir.name, 'payload')
        bare.write(payload, 1)
        for name in 'file0', 'node0':
            with open(os.path.join(self.dir.name, name), 'wb') as f:
                f.truncate(1 << 20)
        self.vm = VM(os.path.abspath(binary), ['-m', '16M', '-bios', payload],
                     monitors=2, preexec=self._confine)
        self.vm.serial.expect('hh')

    def _confine(self):
        os.chdir(self.dir.name)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 20, 64 << 20))

    def close(self):
        if self.vm.process.poll() is not None:
            print(f'# the VM ended with {self.vm.process.returncode}: {self.vm.errors()}', flush=True)
        self.vm.kill()
        self.dir.cleanup()


def random_line(rng):
    return ' '.join(rng.choices(LINES, k=rng.randrange(1, 5)))


def random_request(rng, schema, names):
    name = rng.choice(names)
    request = {'execute': name, 'id': rng.randrange(1 << 32)}
    if name == 'human-monitor-command':
        request['arguments'] = {'command-line': random_line(rng)}
    elif schema.members(name) or rng.random() < 0.1:
        request['arguments'] = schema.random_arguments(rng, name)
    if rng.random() < 0.02:
        request[rng.choice(STRINGS)] = rng.choice(STRINGS)
    return request


def damaged(rng, text):
    """The bytes with a few of them changed, repeated, left out."""
    data = bytearray(text)
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(data))
        end = min(len(data), at + rng.randrange(1, 20))
        kind = rng.randrange(4)
        if kind == 0:
            data[at] = rng.randrange(256)
        elif kind == 1:
            del data[at:end]
        elif kind == 2:
            data[at:at] = data[at:end] * rng.randrange(1, 4)
        else:
            data[at:at] = rng.choice([b'{', b'}', b'[', b']', b'"', b',', b':', b'\\', b'\\u', b'\0',
                                      b'\xff', b'-', b'1e999', b'null', b'\xc3'])
        if not data:
            data = bytearray(b'{')
    return bytes(data)


def answered(qmp, number):
    """Up to the reply with that id, as often as the program says anything.  0xff and a line end
    bring its reader back from wherever the damage has left it."""
    qmp.sock.sendall(b'\n\xff\n' + json.dumps({'execute': 'query-version',
                                              'id': f'end {number}'}).encode())
    while True:
        message = qmp.reply(60)
        if 'error' in message:
            assert message['error']['desc'], message
        if message.get('id') == f'end {number}':
            assert 'return' in message, message
            return


def settle(qmp):
    """Leaves nothing behind that would hold up the requests to come."""
    qmp.send({'execute': 'migrate_cancel'})
    qmp.reply(60)
    for job in qmp.cmd('query-jobs'):
        for command in ('job-cancel', 'job-finalize', 'job-dismiss'):
            qmp.send({'execute': command, 'arguments': {'id': job['id']}})
            qmp.reply(60)
    qmp.events.clear()


def session(vm, rng, schema, count):
    """The whole of it in one session."""
    names = sorted(set(schema.commands) - LEFT_OUT)
    qmp = vm.session(0, timeout=60)
    for number in range(count):
        text = json.dumps(random_request(rng, schema, names), ensure_ascii=rng.random() < 0.5)
        data = text.encode(errors='surrogatepass')
        broken = rng.random() < 0.5
        if broken:
            data = damaged(rng, data)
        if any(word in data for word in FORBIDDEN):
            continue
        try:
            qmp.sock.sendall(data)
            answered(qmp, number)
        except Exception:
            print(f'# seed {SEED}, request {number}: {data!r}', flush=True)
            raise
        # What changes the machine waits for a migration, and nobody may read that one.
        if number % 100 == 99 or b'migrat' in data:
            settle(qmp)
    settle(qmp)
    qmp.close()


def test_random(victim):
    vm = victim.vm
    schema = Schema(vm.qmp.cmd('query-qmp-schema'))
    rng = random.Random(SEED)
    undisturbed(vm, f'{COUNT} requests', lambda: session(vm, rng, schema, COUNT))
    assert vm.process.poll() is None
    vm.qmp.events.clear()
    if vm.qmp.cmd('query-status')['status'] != 'running':
        vm.qmp.cmd('system_reset')
        vm.qmp.cmd('cont')
    assert vm.qmp.cmd('query-status')['status'] == 'running'
    vm.serial.drain()
    vm.serial.expect('hh', 20)


def refused(vm, name, arguments):
    vm.qmp.send({'execute': name, 'arguments': arguments})
    message = vm.qmp.reply()
    assert 'error' in message, f'{name} {arguments}: {message}'
    return message['error']['desc']


def test_errors_name_the_member(victim):
    """Of every command: a member too many, one missing, one of a type that it cannot be."""
    vm = victim.vm
    schema = Schema(vm.qmp.cmd('query-qmp-schema'))
    checked = 0
    for name in sorted(schema.commands):
        if name == 'qmp_capabilities':
            continue  # its members are looked at in a session that has not negotiated
        good = schema.minimal_arguments(name)
        said = refused(vm, name, {**good, 'bogus': 1})
        assert said == "Parameter 'bogus' is unexpected", f'{name}: {said}'
        for member in schema.members(name):
            key = member['name']
            if schema.types[member['type']].get('json-type') == 'value':
                continue  # anything fits
            wrong = {'x': []} if schema.types[member['type']]['meta-type'] != 'object' else 'x'
            said = refused(vm, name, {**good, key: wrong, 'bogus': 1})
            assert f"'{key}" in said, f'{name} {key}: {said}'
            checked += 1
            if 'default' not in member:
                without = {k: v for k, v in good.items() if k != key}
                said = refused(vm, name, without)
                assert said == f"Parameter '{key}' is missing", f'{name} {key}: {said}'
    print(f'# {len(schema.commands)} commands, {checked} members')


def main():
    victim = Victim(sys.argv[1])
    try:
        tap.run(sys.modules[__name__], victim, needs_guest=False)
    finally:
        victim.close()


main()
