#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Devices and objects as clients of QEMU see them, and what can come and go while the machine
runs.  Every text here is QEMU 7.2's.

usage: qom.py KF-SYSTEM
"""

import os
import sys
import tempfile

from kfvm import QMPError, VM
import tap

BINARY = sys.argv[1]


class Machine(VM):
    """With a disk that has a name, one that has none, and one more node."""

    def __init__(self, *args):
        self.images = tempfile.TemporaryDirectory()
        nodes = []
        for i in range(3):
            path = os.path.join(self.images.name, str(i))
            with open(path, 'wb') as f:
                f.truncate(1 << 20)
            nodes += ['-blockdev', f'file,node-name=n{i},filename={path}']
        super().__init__(BINARY, ['-S', *nodes, '-object', 'iothread,id=t0',
                                  '-device', 'virtio-blk-device,drive=n0,id=d0,serial=abc',
                                  '-device', 'virtio-blk-device,drive=n1,iothread=t0',
                                  '-device', 'vmgenid', *args])

    def cleanup(self):
        super().cleanup()
        self.images.cleanup()


def fails(qmp, name, **args):
    """The class and the words of the error."""
    try:
        value = qmp.cmd(name, **args)
    except QMPError as error:
        return error.cls, error.desc
    raise AssertionError((name, args, value))


def generic(text):
    return 'GenericError', text


def children(qmp, path):
    return {p['name']: p['type'][6:-1] for p in qmp.cmd('qom-list', path=path)
            if p['type'].startswith('child<')}


def test_tree():
    with Machine() as vm:
        qmp = vm.qmp
        assert children(qmp, '/') == {'machine': 'virt-machine', 'objects': 'container',
                                      'chardevs': 'container'}
        assert children(qmp, '/machine/peripheral') == {'d0': 'virtio-blk-device'}
        assert set(children(qmp, '/machine/peripheral-anon').values()) == \
            {'vmgenid', 'virtio-blk-device'}
        assert children(qmp, '/objects') == {'t0': 'iothread',
                                             'riscv_virt_board.ram': 'memory-backend-ram'}
        assert children(qmp, '/chardevs')['serial0'] == 'chardev-socket'
        # every object has the type that its parent says, and is found by its path
        seen, paths = 0, ['/']
        while paths:
            path = paths.pop()
            for name, kind in children(qmp, path).items():
                child = path.rstrip('/') + '/' + name
                assert qmp.cmd('qom-get', path=path, property=name) == child
                assert qmp.cmd('qom-get', path=child, property='type') == kind
                # ... and every property has a value
                for p in qmp.cmd('qom-list', path=child):
                    qmp.cmd('qom-get', path=child, property=p['name'])
                paths.append(child)
                seen += 1
        assert seen > 30, seen
        # the paths that other commands give are paths of the tree
        for cpu in qmp.cmd('query-cpus-fast'):
            assert qmp.cmd('qom-get', path=cpu['qom-path'], property='type') == 'rv64-riscv-cpu'
        for block in qmp.cmd('query-block'):
            assert qmp.cmd('qom-get', path=block['qdev'], property='type') == 'virtio-blk-device'
        assert vm.quit() == 0


def test_paths():
    with Machine() as vm:
        qmp = vm.qmp
        whole = qmp.cmd('qom-list', path='/machine/peripheral/d0')
        for path in ('d0', 'peripheral/d0', '//machine//peripheral/d0/'):
            assert qmp.cmd('qom-list', path=path) == whole, path
        assert fails(qmp, 'qom-list', path='nope') == ('DeviceNotFound',
                                                       "Device 'nope' not found")
        assert fails(qmp, 'qom-get', path='/nope', property='x') == ('DeviceNotFound',
                                                                     "Device '/nope' not found")
        assert fails(qmp, 'qom-list', path='') == generic("Path '' is ambiguous")
        assert fails(qmp, 'qom-list', path='eripheral/d0')[0] == 'DeviceNotFound'
        assert vm.quit() == 0


def test_properties():
    with Machine('-machine', 'mem-merge=off', '-m', '64') as vm:
        def get(path, name):
            return vm.qmp.cmd('qom-get', path=path, property=name)

        assert get('/machine', 'memory') == {'size': 64 << 20}
        assert get('/machine', 'dump-guest-core') is True
        assert get('/machine', 'memory-backend') == '/objects/riscv_virt_board.ram'
        assert get('/objects/riscv_virt_board.ram', 'size') == 64 << 20
        assert get('d0', 'drive') == 'n0' and get('d0', 'serial') == 'abc'
        assert get('d0', 'queue-size') == 256 and get('d0', 'write-cache') == 'auto'
        assert get('d0', 'iothread') == '' and get('d0', 'realized') is True
        assert get('d0', 'hotpluggable') is False
        assert get('d0', 'parent_bus') == '/machine/unattached/device[11]/virtio-mmio-bus.7'
        assert get('/machine/peripheral-anon/device[1]', 'iothread') == '/objects/t0'
        qmp = vm.qmp
        assert fails(qmp, 'qom-get', path='/machine', property='nope') == \
            generic("Property 'virt-machine.nope' not found")

        def cannot_set(path, name, text):
            assert fails(qmp, 'qom-set', path=path, property=name, value='x') == generic(text)

        cannot_set('d0', 'serial', "Attempt to set property 'serial' on device 'd0' "
                                   "(type 'virtio-blk-device') after it was realized")
        cannot_set('/machine/peripheral-anon/device[1]', 'serial',
                   "Attempt to set property 'serial' on anonymous device "
                   "(type 'virtio-blk-device') after it was realized")
        cannot_set('d0', 'nope', "Property 'virtio-blk-device.nope' not found")
        cannot_set('d0', 'type', "Property 'virtio-blk-device.type' is not writable")
        cannot_set('/machine', 'peripheral', "Property 'virt-machine.peripheral' is not writable")
        assert vm.quit() == 0


def test_types():
    with VM(BINARY, ['-M', 'none']) as vm:
        qmp = vm.qmp
        types = {t['name']: t for t in qmp.cmd('qom-list-types', abstract=True)}
        concrete = {t['name'] for t in qmp.cmd('qom-list-types')}
        assert concrete == {n for n, t in types.items() if not t.get('abstract')}
        assert all(t['parent'] in types for t in types.values() if 'parent' in t)
        assert {t['name'] for t in qmp.cmd('qom-list-types', implements='virtio-device')} == \
            {'virtio-blk-device', 'virtio-net-device'}
        assert {t['name'] for t in qmp.cmd('qom-list-types', implements='user-creatable')} == \
            {'iothread', 'memory-backend-ram', 'secret'}
        assert qmp.cmd('qom-list-types', implements='nope') == []
        devices = qmp.cmd('qom-list-types', implements='device')
        for device in devices:
            names = {p['name'] for p in qmp.cmd('device-list-properties',
                                                typename=device['name'])}
            every = {p['name'] for p in qmp.cmd('qom-list-properties', typename=device['name'])}
            assert names < every and 'realized' in every - names, (device, names, every)
        queue = [p for p in qmp.cmd('device-list-properties', typename='virtio-blk-device')
                 if p['name'] == 'queue-size']
        assert queue == [{'name': 'queue-size', 'type': 'uint16', 'default-value': 256}]
        assert fails(qmp, 'device-list-properties', typename='nope') == \
            ('DeviceNotFound', "Device 'nope' not found")
        assert fails(qmp, 'qom-list-properties', typename='nope') == \
            ('DeviceNotFound', "Class 'nope' not found")
        for name in ('iothread', 'device'):
            assert fails(qmp, 'device-list-properties', typename=name) == \
                generic("Parameter 'typename' expects a non-abstract device type")
        assert fails(qmp, 'device_add', driver='virtio-blk-device', drive='x') == \
            generic("No 'virtio-bus' bus found for device 'virtio-blk-device'")
        assert vm.quit() == 0


def test_devices():
    with Machine() as vm:
        def cannot_add(text, **args):
            assert fails(vm.qmp, 'device_add', **args) == generic(text), args

        disk = {'driver': 'virtio-blk-device', 'drive': 'n2'}
        cannot_add("Bus 'virtio-mmio-bus.5' does not support hotplugging", **disk)
        cannot_add("Bus 'virtio-mmio-bus.0' does not support hotplugging", **disk,
                   bus='virtio-mmio-bus.0')
        cannot_add("Bus 'virtio-mmio-bus.7' is full", **disk, bus='virtio-mmio-bus.7')
        cannot_add("Bus 'nobus' not found", **disk, bus='nobus')
        cannot_add("Device 'virtio-blk-device' can't go on System bus", **disk,
                   bus='main-system-bus')
        cannot_add("Parameter 'id' expects an identifier", **disk, id='1x')
        cannot_add("'nope' is not a valid device model name", driver='nope')
        cannot_add("'iothread' is not a valid device model name", driver='iothread')
        cannot_add("Parameter 'driver' expects a non-abstract device type", driver='virtio-device')
        cannot_add("Parameter 'driver' expects a pluggable device type", driver='virtio-mmio')
        cannot_add("Parameter 'driver' is missing")

        def cannot_remove(name, text, cls='GenericError'):
            assert fails(vm.qmp, 'device_del', id=name) == (cls, text), name

        cannot_remove('nope', "Device 'nope' not found", 'DeviceNotFound')
        cannot_remove('t0', "Device 't0' not found", 'DeviceNotFound')
        cannot_remove('d0', "Bus 'virtio-mmio-bus.7' does not support hotplugging")
        cannot_remove('/machine/peripheral/d0',
                      "Bus 'virtio-mmio-bus.7' does not support hotplugging")
        cannot_remove('/machine/unattached/device[4]',
                      "Bus 'main-system-bus' does not support hotplugging")
        cannot_remove('/machine', '/machine is not a hotpluggable device')
        assert vm.quit() == 0


def test_bus():
    """-device says where its device goes."""
    with Machine('-device', 'virtio-blk-device,drive=n2,bus=virtio-mmio-bus.2,id=d2') as vm:
        assert vm.qmp.cmd('qom-get', path='d2', property='parent_bus') == \
            '/machine/unattached/device[6]/virtio-mmio-bus.2'
        assert vm.quit() == 0


def test_secrets():
    with Machine('-object', 'secret,id=s0,data=abc') as vm:
        qmp = vm.qmp
        path = os.path.join(vm.images.name, 'secret')
        with open(path, 'w', encoding='ascii') as f:
            f.write('YWJj\n')
        qmp.cmd('object-add', qom_type='secret', id='s1', file=path, format='base64')
        assert children(qmp, '/objects')['s1'] == 'secret'
        assert qmp.cmd('qom-get', path='s1', property='data') == ''  # it is one
        assert fails(qmp, 'object-add', qom_type='secret', id='s1', data='x') == generic(
            "attempt to add duplicate property 's1' to object (type 'container')")
        assert fails(qmp, 'object-add', qom_type='secret', id='s2', data='abc\u00e4',
                     format='base64') == generic('Base64 data contains invalid characters')
        assert fails(qmp, 'object-add', qom_type='secret', id='s2') == generic(
            "Either 'file' or 'data' must be provided")
        assert fails(qmp, 'object-add', qom_type='secret', id='s2', file=path, data='x') == \
            generic("'file' and 'data' are mutually exclusive")
        assert fails(qmp, 'object-add', qom_type='secret', id='s2', file=path + 'x')[1]. \
            startswith(f'Unable to read {path}x: ')
        qmp.cmd('object-del', id='s0')
        qmp.cmd('object-del', id='s1')
        assert 'secret' not in children(qmp, '/objects').values()
        assert vm.quit() == 0


def test_memory_backend():
    args = ['-object', 'memory-backend-ram,id=m,size=64M,prealloc=on,dump=off',
            '-machine', 'memory-backend=m']
    with VM(BINARY, ['-S', *args]) as vm:
        qmp = vm.qmp
        assert qmp.cmd('query-memory-size-summary') == {'base-memory': 64 << 20}
        memory, = qmp.cmd('query-memdev')
        assert memory['id'] == 'm' and memory['prealloc'] and not memory['dump'], memory
        assert qmp.cmd('qom-get', path='/machine', property='memory-backend') == '/objects/m'
        assert qmp.cmd('qom-get', path='/objects/m', property='size') == 64 << 20
        with open(f'/proc/{vm.process.pid}/statm', encoding='ascii') as f:
            assert int(f.read().split()[1]) * 4096 >= 64 << 20  # it is all there
        assert fails(qmp, 'object-del', id='m') == generic(
            "object 'm' is in use, can not be deleted")
        assert fails(qmp, 'object-add', qom_type='memory-backend-ram', id='n', size=4096)[1]
        assert vm.quit() == 0


def test_objects():
    with Machine() as vm:
        qmp = vm.qmp

        def threads():
            return {t['id']: t['thread-id'] for t in qmp.cmd('query-iothreads')}

        before = threads()
        qmp.cmd('object-add', qom_type='iothread', id='t1')
        tid = threads()['t1']
        assert os.path.exists(f'/proc/{vm.process.pid}/task/{tid}')
        assert fails(qmp, 'object-add', qom_type='iothread', id='t1') == generic(
            "attempt to add duplicate property 't1' to object (type 'container')")
        assert fails(qmp, 'object-add', qom_type='iothread', id='1t') == generic(
            "Parameter 'id' expects an identifier")
        qmp.cmd('object-del', id='t1')
        assert threads() == before
        assert not os.path.exists(f'/proc/{vm.process.pid}/task/{tid}')
        def polling(name):
            return next(t for t in qmp.cmd('query-iothreads') if t['id'] == name)

        qmp.cmd('object-add', qom_type='iothread', id='t2', poll_max_ns=5000, aio_max_batch=7)
        assert polling('t2').items() >= {'poll-max-ns': 5000, 'poll-grow': 0, 'poll-shrink': 0,
                                         'aio-max-batch': 7}.items()
        qmp.cmd('qom-set', path='/objects/t2', property='poll-grow', value=3)
        qmp.cmd('qom-set', path='t0', property='poll-max-ns', value=20000)
        assert polling('t2')['poll-grow'] == 3 and polling('t0')['poll-max-ns'] == 20000
        assert qmp.cmd('qom-get', path='/objects/t2', property='poll-grow') == 3
        assert qmp.cmd('qom-get', path='/objects/t0', property='aio-max-batch') == 0
        for value, text in ((-1, 'poll-shrink value must be in range [0, 9223372036854775807]'),
                            ('5', "Invalid parameter type for 'poll-shrink', expected: integer")):
            assert fails(qmp, 'qom-set', path='/objects/t2', property='poll-shrink',
                         value=value) == generic(text)
        assert fails(qmp, 'object-add', qom_type='iothread', id='t3', aio_max_batch=-1) == generic(
            'aio-max-batch value must be in range [0, 9223372036854775807]')
        assert polling('t2')['poll-shrink'] == 0
        assert 't2:\r\n' in qmp.hmp('info iothreads') and 'poll-grow=3' in qmp.hmp('info iothreads')
        qmp.cmd('object-del', id='t2')
        # t0 has a disk, the RAM is the machine's
        for name in ('t0', 'riscv_virt_board.ram'):
            assert fails(qmp, 'object-del', id=name) == generic(
                f"object '{name}' is in use, can not be deleted")
        assert fails(qmp, 'object-del', id='t1') == generic("object 't1' not found")
        assert threads() == before
        assert vm.quit() == 0


if __name__ == '__main__':
    tap.run(sys.modules[__name__], needs_guest=False)
