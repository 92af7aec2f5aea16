#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What libvirt asks when it looks at a binary and when it starts a machine.

Every command of that conversation works here, or fails as it does in QEMU; what is answered
has QEMU's members and types.  Where Debian's qemu-system-riscv64 is installed, that is
checked against its own schema, and the errors against its own.

usage: probe.py KF-SYSTEM
"""

import os
import shutil
import sys
import tempfile

from kfvm import QMPError, VM
import tap

BINARY = sys.argv[1]
REFERENCE = shutil.which('qemu-system-riscv64', path='/usr/bin')

# What libvirt 9.0 starts for a machine with one disk, but for names of files.
MACHINE = ['-name', 'guest=kf,debug-threads=on', '-S',
           '-object', 'secret,id=masterKey0,format=raw,file={dir}/key',
           '-machine', 'virt,usb=off,dump-guest-core=off,memory-backend=riscv_virt_board.ram',
           '-accel', 'tcg', '-m', '128',
           '-object', 'memory-backend-ram,id=riscv_virt_board.ram,size=134217728',
           '-overcommit', 'mem-lock=off', '-smp', '1,sockets=1,cores=1,threads=1',
           '-object', 'iothread,id=iothread1', '-uuid', '478281b9-2987-41e1-a21d-9177b3bed95a',
           '-no-user-config', '-rtc', 'base=utc', '-boot', 'strict=on',
           '-blockdev', '{{"driver":"file","filename":"{dir}/disk","node-name":'
                        '"libvirt-1-storage","auto-read-only":true,"discard":"unmap"}}',
           '-blockdev', '{{"node-name":"libvirt-1-format","read-only":false,"driver":"raw",'
                        '"file":"libvirt-1-storage"}}',
           '-device', 'virtio-blk-device,drive=libvirt-1-format,id=virtio-disk0,bootindex=1',
           '-chardev', 'pty,id=charserial0', '-audiodev', '{{"id":"audio1","driver":"none"}}',
           '-msg', 'timestamp=on']

# Asked of a binary, then of a machine.
QUESTIONS = [
    ('query-version', {}), ('query-target', {}), ('query-commands', {}), ('query-kvm', {}),
    ('qom-list-types', {}), ('query-machines', {}), ('query-command-line-options', {}),
    ('query-migrate-capabilities', {}),
    ('device-list-properties', {'typename': 'virtio-blk-device'}),
    ('qom-list-properties', {'typename': 'virt-machine'}),
    ('qom-list-properties', {'typename': 'memory-backend-file'}),
    ('query-status', {}), ('query-name', {}), ('query-uuid', {}), ('query-cpus-fast', {}),
    ('query-iothreads', {}), ('query-chardev', {}), ('query-block', {}),
    ('query-blockstats', {}), ('query-blockstats', {'query-nodes': True}),
    ('query-named-block-nodes', {}), ('query-memory-size-summary', {}), ('query-memdev', {}),
    ('query-memory-devices', {}), ('query-current-machine', {}), ('query-jobs', {}),
    ('qom-list', {'path': '/machine/peripheral'}), ('qom-list', {'path': '/objects'}),
    ('qom-get', {'path': '/machine/peripheral/virtio-disk0', 'property': 'drive'}),
    ('qom-get', {'path': '/machine', 'property': 'memory'}),
]
# Devices that neither machine has: the same answers.
ABSENT = [
    ('query-tpm', {}), ('query-mice', {}), ('query-stats', {'target': 'vm'}),
    ('query-stats', {'target': 'vcpu', 'vcpus': ['/machine/soc0/harts[0]'],
                     'providers': [{'provider': 'kvm', 'names': ['x']}]}),
    ('query-stats-schemas', {}), ('query-stats-schemas', {'provider': 'kvm'}),
]
# Fail in both, in the same words.
FAILURES = [
    ('query-cpu-model-expansion', {}), ('query-sev', {}), ('query-balloon', {}),
    ('balloon', {'value': 1 << 30}), ('balloon', {}), ('balloon', {'value': 'x'}),
    ('query-stats', {}), ('query-stats', {'target': 'nope'}),
    ('query-stats', {'target': 'vm', 'vcpus': []}), ('query-stats-schemas', {'provider': 'nope'}),
    ('query-gic-capabilities', {}), ('query-sev-capabilities', {}), ('query-sgx', {}),
    ('query-events', {}), ('query-hotpluggable-cpus', {}),
    ('device-list-properties', {'typename': 'nope'}),
    ('device-list-properties', {'typename': 'iothread'}),
    ('qom-list-properties', {'typename': 'nope'}), ('qom-list', {'path': '/nope'}),
    ('qom-list', {'path': ''}), ('qom-get', {'path': '/machine', 'property': 'nope'}),
    ('qom-set', {'path': 'virtio-disk0', 'property': 'serial', 'value': 'x'}),
    ('qom-set', {'path': 'virtio-disk0', 'property': 'nope', 'value': 'x'}),
    ('qom-set', {'path': 'virtio-disk0', 'property': 'type', 'value': 'x'}),
    ('device_del', {'id': 'nope'}), ('device_del', {'id': 'virtio-disk0'}),
    ('device_del', {'id': '/machine'}),
    ('device_del', {'id': '/machine/unattached/device[4]'}),
    ('device_add', {'driver': 'virtio-blk-device', 'drive': 'x'}),
    ('device_add', {'driver': 'virtio-blk-device', 'drive': 'x', 'bus': 'virtio-mmio-bus.7'}),
    ('device_add', {'driver': 'virtio-blk-device', 'drive': 'x', 'bus': 'nobus'}),
    ('device_add', {'driver': 'virtio-device'}), ('device_add', {'driver': 'virtio-mmio'}),
    ('device_add', {'driver': 'nope'}), ('device_add', {}),
    ('object-add', {'qom-type': 'iothread', 'id': '1x'}),
    ('object-add', {'qom-type': 'iothread', 'id': 'iothread1'}),
    ('object-add', {'qom-type': 'nope', 'id': 'x'}),
    ('object-add', {'qom-type': 'secret', 'id': 'x'}),
    ('object-add', {'qom-type': 'secret', 'id': 'x', 'data': 'y', 'file': 'z'}),
    ('object-add', {'qom-type': 'secret', 'id': 'x', 'data': '!', 'format': 'base64'}),
    ('object-del', {'id': 'nope'}), ('object-del', {'id': 'riscv_virt_board.ram'}),
    ('query-command-line-options', {'option': 'nope'}),
]
# Names that QEMU has since 7.2.
LATER = ('switchover-ack', 'dirty-limit', 'mapped-ram')
JSON_TYPES = {'string': str, 'int': int, 'number': (int, float), 'boolean': bool,
              'null': type(None), 'value': object}


class Machine(VM):
    def __init__(self, binary):
        self.files = tempfile.TemporaryDirectory()
        for name in ('disk', 'key'):
            with open(os.path.join(self.files.name, name), 'wb') as f:
                f.truncate(1 << 20 if name == 'disk' else 32)
        super().__init__(binary, [a.format(dir=self.files.name) for a in MACHINE])

    def cleanup(self):
        super().cleanup()
        self.files.cleanup()


def outcome(qmp, name, args):
    try:
        return 'return', qmp.cmd(name, **args)
    except QMPError as error:
        return error.cls, error.desc


def same_outcomes(vm, reference, requests):
    for name, args in requests:
        ours, theirs = (outcome(m.qmp, name, args) for m in (vm, reference))
        assert ours == theirs, (name, args, ours, theirs)


class Schema:
    """What a program says that its answers look like."""

    def __init__(self, entities):
        self.entities = {e['name']: e for e in entities}

    def check(self, name, value, where):
        """Complaints about a value of a type."""
        typ = self.entities[name]
        meta = typ['meta-type']
        if meta == 'builtin':
            if not isinstance(value, JSON_TYPES[typ['json-type']]):
                yield f'{where}: {value!r} is no {typ["json-type"]}'
        elif meta == 'enum':
            if value not in typ['values'] and value not in LATER:
                yield f'{where}: {value!r} is no value'
        elif meta == 'array':
            for i, element in enumerate(value):
                yield from self.check(typ['element-type'], element, f'{where}[{i}]')
        elif meta == 'object':
            yield from self.check_object(typ, value, where)

    def check_object(self, typ, value, where):
        members = {m['name']: m for m in typ['members']}
        for variant in typ.get('variants', []):
            if variant['case'] == value.get(typ['tag']):
                members.update({m['name']: m
                                for m in self.entities[variant['type']]['members']})
        for name, member in members.items():
            if name not in value:
                if 'default' not in member:
                    yield f'{where}.{name} is missing'
            else:
                yield from self.check(member['type'], value[name], f'{where}.{name}')
        for name in set(value) - set(members):
            yield f'{where}.{name} is not known'


def test_a_binary():
    """As libvirt starts it to look at it."""
    with VM(BINARY, ['-S', '-no-user-config', '-nographic', '-machine', 'none,accel=kvm:tcg'],
            monitors=1) as vm:
        qmp = vm.qmp
        assert qmp.cmd('query-target') == {'arch': 'riscv64'}
        assert qmp.cmd('query-kvm') == {'enabled': False, 'present': False}
        commands = {c['name'] for c in qmp.cmd('query-commands')}
        for name, args in QUESTIONS:
            assert name in commands, name
            if args.get('path', '/machine') == '/machine':
                assert outcome(qmp, name, args)[0] == 'return', (name, args)
        # QEMU has that for this target since 8.2.
        models = qmp.cmd('query-cpu-definitions')
        assert [m['name'] for m in models] == ['rv64', 'max'], models
        types = {t['name'] for t in qmp.cmd('qom-list-types', implements='cpu')}
        assert {m['typename'] for m in models} <= types, (models, types)
        virt = [m for m in qmp.cmd('query-machines') if m['name'] == 'virt'][0]
        assert virt['default-ram-id'] == 'riscv_virt_board.ram' and virt['cpu-max'] == 1
        assert vm.quit() == 0


def test_a_machine():
    """Starts, answers, runs."""
    with Machine(BINARY) as vm:
        qmp = vm.qmp
        for name, args in QUESTIONS:
            kind, value = outcome(qmp, name, args)
            assert kind == 'return', (name, args, value)
        memory = qmp.cmd('query-memdev')
        assert [(m['id'], m['size'], m['dump'], m['merge']) for m in memory] == \
            [('riscv_virt_board.ram', 128 << 20, False, False)]
        assert [t['id'] for t in qmp.cmd('query-iothreads')] == ['iothread1']
        types = {p['name']: p['type'] for p in qmp.cmd('qom-list', path='/objects')}
        assert types['masterKey0'] == 'child<secret>'
        qmp.cmd('object-add', qom_type='secret', id='s', data='YQ==', format='base64')
        qmp.cmd('object-del', id='s')
        qmp.cmd('cont')
        qmp.wait_event('RESUME')
        said = vm.errors().splitlines()
        assert len(said) == 2 and 'bootindex' in said[0] and '/dev/pts' in said[1], said
        assert vm.quit() == 0


def test_messages_begin_with_the_time():
    with VM(BINARY, ['-msg', 'timestamp=on,guest-name=on', '-name', 'me']) as vm:
        vm.process.terminate()
        vm.qmp.wait_event('SHUTDOWN')
        vm.process.wait(30)
        words = vm.errors().split()
        assert words[0].startswith('20') and words[0].endswith('Z') and len(words[0]) == 27, words
        assert words[1] == 'me' and words[2].endswith(':'), words


def test_answers_have_the_shape_of_qemu():
    if not REFERENCE:
        raise tap.Skip('no qemu-system-riscv64')
    with VM(REFERENCE, ['-M', 'none']) as reference, Machine(BINARY) as vm:
        schema = Schema(reference.qmp.cmd('query-qmp-schema'))
        complaints = []
        for name, args in QUESTIONS:
            command = schema.entities[name]
            value = vm.qmp.cmd(name, **args)
            complaints += schema.check(command['ret-type'], value, name)
        assert not complaints, complaints
        assert vm.quit() == 0


def test_absent_devices_are_absent_in_both():
    if not REFERENCE:
        raise tap.Skip('no qemu-system-riscv64')
    with Machine(REFERENCE) as reference, Machine(BINARY) as vm:
        same_outcomes(vm, reference, ABSENT)
        # QEMU has been built with a few.
        for name in ('query-tpm-models', 'query-tpm-types'):
            assert vm.qmp.cmd(name) == []
        assert vm.quit() == 0


def test_errors_are_those_of_qemu():
    if not REFERENCE:
        raise tap.Skip('no qemu-system-riscv64')
    with Machine(REFERENCE) as reference, Machine(BINARY) as vm:
        same_outcomes(vm, reference, FAILURES)
        assert vm.quit() == 0


if __name__ == '__main__':
    tap.run(sys.modules[__name__], needs_guest=False)
