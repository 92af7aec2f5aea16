#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Looks into snapshots: mounts, kf-img vmstate, kf-storage-daemon, core.elf in gdb.

usage: look-inside.py KF-SYSTEM-RISCV64 KF-IMG KF-STORAGE-DAEMON
"""

import errno
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import bare
import tap
from kfvm import QMP, QMPError, VM
from rig import MIB, Rig, check_image, fails, fault, on, slow
from streamreader import PAGE, Stream, plain

SYSTEM, IMG, DAEMON = sys.argv[1:4]
BLOCK = 'riscv_virt_board.ram'
RAM_BYTES = 32 << 20


def mounted(path):
    with open('/proc/self/mountinfo', encoding='utf-8') as lines:
        return any(line.split()[4] == path for line in lines)


def read(*parts):
    with open(os.path.join(*parts), 'rb') as file:
        return file.read()


def files(directory):
    """Paths of all files below directory, relative to it."""
    return sorted(os.path.relpath(os.path.join(d, n), directory)
                  for d, _, names in os.walk(directory) for n in names)


def run(*command, ok=True, **kwargs):
    result = subprocess.run(command, capture_output=True, timeout=60, check=False, **kwargs)
    assert not ok or result.returncode == 0, (command, result.stderr)
    return result


def until(condition):
    """What has no event to wait for: a process's death seen in the mount table."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class Inside:
    """An image with the snapshot 't' of a stopped guest, and a VM that has it open."""

    def __init__(self):
        self.rig = Rig(SYSTEM)
        self.path = self.rig.image('disk.qcow2')
        self.plain_path = self.rig.image('plain.qcow2')
        self.mnt = self.rig.path('mnt')
        self.file = self.rig.path('file')
        os.mkdir(self.mnt)
        with open(self.file, 'wb'):
            pass
        self.rig.start('-S')
        self.rig.vm.qmp.cmd('cont')
        self.rig.vm.serial.expect('hhh')
        self.rig.vm.qmp.cmd('stop')
        self.rig.add('n', self.path)
        self.rig.vm.qmp.run_job('snapshot-save', 'j', tag='t', **on('n'))
        self.rig.delete('n')
        self.guest = self.rig.vm.qmp

    def qmp(self):
        """The VM without nodes and exports."""
        qmp = self.rig.vm.qmp
        for export in qmp.cmd('query-block-exports'):
            qmp.cmd('block-export-del', id=export['id'])
        for node in qmp.cmd('query-named-block-nodes'):
            if not node['node-name'].startswith('#'):
                qmp.cmd('blockdev-del', node_name=node['node-name'])
        qmp.events.clear()
        return qmp

    def export(self, qmp, name='e', **more):
        args = {'type': 'vmstate-fuse', 'id': name, 'node_name': 'n', 'snapshot': 't',
                'mountpoint': self.mnt, **more}
        qmp.cmd('block-export-add', **args)

    def mount(self):
        qmp = self.qmp()
        self.rig.add('n', self.path)
        self.export(qmp)
        return qmp

    def unmount(self, qmp, name='e'):
        qmp.cmd('block-export-del', id=name)
        qmp.wait_event('BLOCK_EXPORT_DELETED', match=lambda d: d['id'] == name)
        assert not mounted(self.mnt)

    def end(self):
        self.rig.stop()
        run('umount', '-l', self.mnt, ok=False)
        run('umount', '-l', self.file, ok=False)


def test_ram_is_the_guests(t):
    qmp = t.mount()
    ram = read(t.mnt, 'ram', BLOCK)
    cpu = json.loads(read(t.mnt, 'devices', 'cpu.json'))
    x = [int(v, 16) for v in cpu['x']]
    payload = read(t.rig.payload)
    assert len(ram) == RAM_BYTES
    assert ram[:len(payload)] == payload
    # Pages hold the last generation or the one before, in order, as bare.py writes them.
    stamps = [int.from_bytes(ram[at:at + 8], 'little')
              for at in range(bare.FIRST, bare.FIRST + (MIB << 20), PAGE)]
    new = x[bare.S4] if x[bare.S4] > x[bare.S3] else x[bare.S3]
    done = sum(s == new for s in stamps)
    assert done and stamps == [new] * done + [new - 1] * (len(stamps) - done), stamps[:4]
    rest = bytearray(ram)
    for at in range(bare.FIRST, bare.FIRST + (MIB << 20), PAGE):
        rest[at:at + 8] = bytes(8)
    last = bare.FIRST + (MIB << 20)
    assert not any(rest[bare.FIRST:last])
    t.unmount(qmp)


def test_ram_is_sparse(t):
    qmp = t.mount()
    path = os.path.join(t.mnt, 'ram', BLOCK)
    present = json.loads(read(t.mnt, 'info.json'))['ram'][0]['present-bytes']
    assert os.stat(path).st_blocks * 512 == present < RAM_BYTES * 3 // 4
    for name in (path, os.path.join(t.mnt, 'core.elf'), os.path.join(t.mnt, 'stream')):
        data = read(name)
        fd = os.open(name, os.O_RDONLY)
        at = holes = 0
        while at < len(data):
            hole = os.lseek(fd, at, os.SEEK_HOLE)
            try:
                at = os.lseek(fd, hole, os.SEEK_DATA)
            except OSError as error:
                assert error.errno == errno.ENXIO
                at = len(data)
            assert not any(data[hole:at])
            holes += at - hole
        assert holes > RAM_BYTES // 4, name
        os.close(fd)
    t.unmount(qmp)


def test_stream_by_its_own_description(t):
    qmp = t.mount()
    stream = Stream(read(t.mnt, 'stream'))
    assert stream.machine == 'virt' and stream.capabilities == ['mapped-ram']
    assert 'checksum' in stream.description
    ram = bytearray(stream.blocks[BLOCK][0])
    for n, page in stream.pages(BLOCK):
        ram[n * PAGE:(n + 1) * PAGE] = page
    assert ram == read(t.mnt, 'ram', BLOCK)
    info = json.loads(read(t.mnt, 'info.json'))
    assert info['machine'] == 'virt' and info['snapshot']['tag'] == 't'
    assert info['ram'][0]['guest-address'] == 0x80000000
    assert [(d['name'], d['instance']) for d in info['devices']] == stream.order
    for d in info['devices']:
        shown = plain(json.loads(read(t.mnt, 'devices', d['file'])))
        assert shown == stream.devices[d['name'], d['instance']], d['name']
    t.unmount(qmp)


def test_as_it_is_sent(t):
    """The file migration is a stream without places, which a new VM can be started from."""
    qmp = t.mount()
    stream, mapped = (Stream(read(t.mnt, n)) for n in ('migration', 'stream'))
    assert stream.capabilities == [] and 'subsections' not in stream.description['configuration']
    assert 'checksum' not in stream.description
    assert dict(mapped.pages(BLOCK)) == stream.records[BLOCK]
    assert stream.devices == mapped.devices and stream.order == mapped.order
    other = Rig(SYSTEM)
    try:
        other.start('-S', '-incoming', 'defer')
        target = other.vm.qmp
        target.cmd('migrate-set-capabilities',
                   capabilities=[{'capability': 'events', 'state': True}])
        target.cmd('migrate-incoming', uri=f'exec:cat {t.mnt}/migration')
        target.wait_event('MIGRATION', match=lambda d: d['status'] == 'completed')
        target.cmd('cont')
        other.vm.serial.expect('hhh')
    finally:
        other.stop()
    t.unmount(qmp)


def test_every_way_shows_the_same(t):
    qmp = t.mount()
    names = files(t.mnt)
    assert names[:1] == ['core.elf'] and 'devices/cpu.json' in names and 'stream' in names
    digests = {n: hashlib.sha256(read(t.mnt, n)).digest() for n in names}
    core = read(t.mnt, 'core.elf')
    assert core.endswith(read(t.mnt, 'ram', BLOCK))
    fails_os(errno.EROFS, open, os.path.join(t.mnt, 'stream'), 'wb')
    fails_os(errno.EROFS, os.mkdir, os.path.join(t.mnt, 'x'))
    t.unmount(qmp)
    t.qmp()
    listed = run(IMG, 'vmstate', 'ls', t.path, 't').stdout.split()
    assert sorted(listed) == [b'core.elf', b'devices/', b'info.json', b'migration', b'ram/',
                              b'stream']
    for name in names:
        assert hashlib.sha256(run(IMG, 'vmstate', 'cat', t.path, 't',
                                  name).stdout).digest() == digests[name], name
    copy = t.rig.path('copy')
    with open(copy, 'wb') as out:
        subprocess.run([IMG, 'vmstate', 'cat', t.path, 't', 'core.elf'], stdout=out, check=True)
    assert hashlib.sha256(read(copy)).digest() == digests['core.elf']
    assert os.stat(copy).st_blocks * 512 < os.stat(copy).st_size * 3 // 4
    run(IMG, 'vmstate', 'mount', t.path, 't', t.mnt)
    assert files(t.mnt) == names
    assert hashlib.sha256(read(t.mnt, 'core.elf')).digest() == digests['core.elf']
    run('umount', t.mnt)
    assert not mounted(t.mnt)


def fails_os(number, function, *args):
    try:
        function(*args)
    except OSError as error:
        assert error.errno == number, error
        return
    raise AssertionError('no error')


def test_mounted_snapshot_stays(t):
    qmp = t.mount()
    words = "Snapshot 't' is in use by export 'e', mounted on"
    fails(lambda: qmp.run_job('snapshot-delete', 'd', tag='t', devices=['n']), words)
    assert words in qmp.hmp('delvm t')
    assert words in qmp.hmp('savevm t')
    before = read(t.mnt, 'ram', BLOCK)
    qmp.run_job('snapshot-save', 's', tag='u', **on('n'))
    qmp.run_job('snapshot-load', 'l', tag='t', **on('n'))
    assert read(t.mnt, 'ram', BLOCK) == before
    run('umount', t.mnt)
    qmp.wait_event('BLOCK_EXPORT_DELETED')
    assert qmp.cmd('query-block-exports') == []
    qmp.run_job('snapshot-delete', 'd', tag='u', devices=['n'])
    t.qmp()
    check_image(t.path)


def test_refusals(t):
    qmp = t.mount()
    other = t.rig.path('other')
    os.mkdir(other)
    fails(lambda: t.export(qmp), "Block export id 'e' is already in use")
    fails(lambda: t.export(qmp, 'f'), 'There already is a FUSE export on')
    fails(lambda: t.export(qmp, 'f', mountpoint='/nowhere'), "Failed to stat '/nowhere'")
    fails(lambda: t.export(qmp, 'f', mountpoint=t.path), 'is not a directory')
    fails(lambda: t.export(qmp, 'f', mountpoint=other, writable=True), 'are read-only')
    fails(lambda: t.export(qmp, 'f', mountpoint=other, snapshot='x'), "'x' does not exist")
    fails(lambda: t.export(qmp, 'f', mountpoint=other, iothread='x'), 'iothread "x" not found')
    qmp.cmd('blockdev-add', driver='raw', node_name='r',
            file={'driver': 'file', 'filename': t.rig.payload})
    fails(lambda: t.export(qmp, 'f', mountpoint=other, node_name='r'), 'does not support')
    run('qemu-img', 'snapshot', '-c', 'disk-only', t.plain_path)
    t.rig.add('p', t.plain_path)
    fails(lambda: t.export(qmp, 'f', mountpoint=other, node_name='p', snapshot='disk-only'),
          'it has no machine state')
    fails(lambda: qmp.cmd('block-export-del', id='f'), "Export 'f' is not found")
    fails(lambda: qmp.cmd('blockdev-del', node_name='n'), 'in use')
    t.unmount(qmp)
    qmp.cmd('blockdev-del', node_name='n')


def test_slow_disk_holds_nobody_up(t):
    """Requests are in flight side by side, and the monitor answers all the while."""
    qmp = t.qmp()
    delay, readers = 0.1, 24
    t.rig.add('n', t.path, slow('read', int(delay * 1000)))
    t.export(qmp)
    path = os.path.join(t.mnt, 'ram', BLOCK)

    def one(n):
        fd = os.open(path, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        os.pread(fd, PAGE, bare.FIRST + n * (512 << 10))
        os.close(fd)

    threads = [threading.Thread(target=one, args=(n,)) for n in range(readers)]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    answers = []
    while any(thread.is_alive() for thread in threads):
        before = time.monotonic()
        qmp.cmd('query-status')
        answers.append(time.monotonic() - before)
        time.sleep(0.01)
    took = time.monotonic() - start
    assert delay * 0.9 < took < delay * readers / 2, took
    assert max(answers) < delay / 2, max(answers)
    t.unmount(qmp)


def test_read_error_is_the_readers(t):
    qmp = t.qmp()
    t.rig.add('n', t.path, fault('read', 200, once=False))
    t.export(qmp)

    def read_it_all():
        for _ in range(3):
            read(t.mnt, 'ram', BLOCK)
            read(t.mnt, 'core.elf')
            read(t.mnt, 'stream')

    fails_os(errno.EIO, read_it_all)
    t.unmount(qmp)
    t.qmp()
    t.rig.add('n', t.path, fault('read', 8, once=False))
    fails(lambda: t.export(qmp), 'Input/output error')
    assert not mounted(t.mnt)


def test_end_of_the_vm_unmounts(t):
    qmp = t.mount()
    t.guest.cmd('quit')
    t.rig.vm.process.wait(30)
    assert not mounted(t.mnt)
    t.rig.start()
    qmp = t.mount()
    t.rig.vm.process.send_signal(signal.SIGTERM)
    t.rig.vm.process.wait(30)
    assert not mounted(t.mnt)
    t.rig.start()
    t.mount()
    t.rig.vm.kill()
    fails_os(errno.ENOTCONN, os.listdir, t.mnt)  # stale: the kernel keeps it
    t.rig.start()
    qmp = t.mount()  # takes it off first
    assert 'stream' in files(t.mnt)
    t.unmount(qmp)


def test_daemon(t):
    qmp = t.qmp()
    socket, pid = t.rig.path('sock'), t.rig.path('pid')
    run(DAEMON, '--blockdev', f'qcow2,node-name=n,file.driver=file,file.filename={t.path}',
        '--export', f'vmstate-fuse,id=e,node-name=n,snapshot=t,mountpoint={t.mnt}',
        '--export', f'type=fuse,id=f,node-name=n,mountpoint={t.file},writable=on',
        '--chardev', f'socket,id=c,path={socket},server=on,wait=off', '--monitor', 'chardev=c',
        '--daemonize', '--pidfile', pid)
    assert read(t.mnt, 'devices', 'cpu.json')
    assert os.stat(t.file).st_size == 64 << 20
    qmp = QMP(socket)
    assert [(e['id'], e['type']) for e in qmp.cmd('query-block-exports')] == [
        ('f', 'fuse'), ('e', 'vmstate-fuse')]
    qmp.cmd('block-export-del', id='e')
    qmp.wait_event('BLOCK_EXPORT_DELETED')
    assert not mounted(t.mnt)
    t.export(qmp)
    assert read(t.mnt, 'info.json')
    os.kill(int(read(pid)), signal.SIGTERM)
    qmp.close()
    until(lambda: not os.path.exists(pid))
    assert not mounted(t.mnt) and not mounted(t.file)
    for options, text in (
            (['--blockdev', 'foo'], "--blockdev foo: Parameter 'driver' does not accept"),
            (['--export', 'type=fuse,id=x'], "Parameter 'node-name' is missing"),
            (['--monitor', 'chardev=x'], 'chardev "x" not found'),
            (['--object', 'iothread,id=a', '--object', 'iothread,id=a'], 'attempt to add dupl'),
            (['--bogus'], "unrecognized option '--bogus'"), (['x'], 'Unexpected argument')):
        result = run(DAEMON, *options, ok=False)
        assert result.returncode == 1 and text in result.stderr.decode(), result.stderr
    check_image(t.path)


def fuse_session(binary, directory):
    """What a client sees of fuse exports: a list of results, without what may differ."""
    image, file, socket = (os.path.join(directory, n) for n in ('i.qcow2', 'f', 's'))
    other = os.path.join(directory, 'other')
    run('qemu-img', 'create', '-q', '-f', 'qcow2', image, '8M')
    run('qemu-io', '-c', 'write -P 5 1M 64k', '-c', 'write -P 6 3M 64k', image)
    for name in (file, other):
        with open(name, 'wb'):
            pass
    daemon = subprocess.Popen([binary, '--blockdev',
                               f'qcow2,node-name=n,discard=unmap,file.driver=file,file.filename={image}',
                               '--chardev', f'socket,id=c,path={socket},server=on,wait=off',
                               '--monitor', 'chardev=c'])
    until(lambda: os.path.exists(socket) or daemon.poll() is not None)
    qmp = QMP(socket)
    seen = []

    def add(name='e', **more):
        args = {'type': 'fuse', 'id': name, 'node_name': 'n', 'mountpoint': file, **more}
        try:
            seen.append(qmp.cmd('block-export-add', **args))
        except QMPError as error:
            seen.append(error.desc.replace(directory, ''))

    def delete(name='e'):
        try:
            seen.append(qmp.cmd('block-export-del', id=name))
            qmp.wait_event('BLOCK_EXPORT_DELETED')
        except QMPError as error:
            seen.append(error.desc)
        seen.append(mounted(file))

    def attempt(function):
        try:
            seen.append(function())
        except OSError as error:
            seen.append(errno.errorcode[error.errno])

    def stat():
        st = os.stat(file)
        seen.append((oct(st.st_mode), st.st_size, st.st_nlink, st.st_uid))

    def write(at, data, flags=0):
        fd = os.open(file, os.O_RDWR | flags)
        try:
            return os.pwrite(fd, data, at)
        finally:
            os.fsync(fd)
            os.close(fd)

    def map_file():
        fd = os.open(file, os.O_RDONLY)
        result, at = [], 0
        try:
            while at < os.stat(file).st_size:
                at = os.lseek(fd, at, os.SEEK_DATA)
                hole = os.lseek(fd, at, os.SEEK_HOLE)
                result.append((at, hole))
                at = hole
        except OSError as error:
            result.append(errno.errorcode[error.errno])
        os.close(fd)
        return result

    add()
    stat()
    seen.append(hashlib.sha256(read(file)).hexdigest())
    attempt(map_file)
    seen.append([sorted(e.items()) for e in qmp.cmd('query-block-exports')])
    add()
    add('e2')
    add('e2', mountpoint='/nowhere')
    add('e2', mountpoint=directory)
    add('e2', node_name='x')
    add('e 2')
    add('e2', writable=True, mountpoint=other, iothread='x')
    delete('x')
    delete()
    add(writable=True)
    stat()
    attempt(lambda: write(4096, b'abc'))
    attempt(lambda: write((8 << 20) - 2, b'abcd'))
    attempt(lambda: write(9 << 20, b'abc'))
    attempt(lambda: os.chmod(file, 0o644))
    stat()
    delete()
    add(writable=True, growable=True)
    attempt(lambda: write(9 << 20, bytes(511) + b'x'))
    stat()
    attempt(lambda: os.truncate(file, 10 << 20))
    stat()
    attempt(lambda: os.truncate(file, 1 << 20))
    stat()
    attempt(lambda: os.truncate(file, 4 << 20))
    attempt(lambda: run('fallocate', '-p', '-o', '0', '-l', '64k', file).returncode)
    attempt(map_file)
    seen.append(hashlib.sha256(read(file)).hexdigest())
    run('umount', file)
    seen.append([sorted(e.items()) for e in qmp.cmd('query-block-exports')])
    delete()
    qmp.cmd('quit')
    qmp.close()
    seen.append(daemon.wait(30))
    check_image(image)
    seen.append(json.loads(run('qemu-img', 'info', '--output=json', image).stdout)
                ['virtual-size'])
    return seen


def test_fuse_exports_are_qemus(t):
    peer = shutil.which('qemu-storage-daemon')
    if not peer:
        raise tap.Skip('no qemu-storage-daemon')
    results = []
    for binary in (DAEMON, peer):
        directory = t.rig.path('fuse-' + os.path.basename(binary))
        os.mkdir(directory)
        results.append(fuse_session(binary, directory))
    for n, (ours, qemus) in enumerate(zip(*results)):
        assert ours == qemus, f'{n}: {ours!r} instead of {qemus!r}'
    assert len(results[0]) == len(results[1])


def test_written_through_a_mapping(t):
    """What a program wrote into a mapping is in the image when the export is gone."""
    import mmap
    qmp = t.qmp()
    t.rig.add('p', t.plain_path)
    qmp.cmd('block-export-add', type='fuse', id='m', node_name='p', mountpoint=t.file,
            writable=True)
    with open(t.file, 'r+b') as file, mmap.mmap(file.fileno(), 1 << 20) as view:
        view[4096:8192] = b'\x5a' * 4096
    qmp.cmd('block-export-del', id='m')
    t.qmp()
    run('qemu-io', '-c', 'read -P 0x5a 4k 4k', t.plain_path)
    assert b'verification failed' not in run('qemu-io', '-c', 'read -P 0x5a 4k 4k',
                                             t.plain_path).stdout


def test_damaged_states(t):
    """Whatever is in the state: a result or one line that says why not."""
    t.qmp()
    data = bytearray(read(t.path))
    head = data.find(b'QEVM')
    text = data.find(b'{"checksum":"sha256:')
    tail = data.rfind(b'\x7e\0\0\0\1\x03\0\0\0\1', 0, text)
    assert 0 < head and 0 < tail < text
    where = [*range(head, head + 200), *range(tail, text + 4000)]
    random.seed(1)
    path = t.rig.path('damaged')
    good = 0
    for _ in range(25):
        copy = bytearray(data)
        for at in random.sample(where, random.choice((1, 1, 3, 20))):
            copy[at] = random.choice((0, 1, 0x7e, 0x7f, 0xff, copy[at] ^ 1 << random.randrange(8)))
        with open(path, 'wb') as file:
            file.write(copy)
        result = run(IMG, 'vmstate', 'cat', path, 't', 'info.json', ok=False)
        if result.returncode == 0:
            json.loads(result.stdout)
            good += 1
        else:
            assert result.returncode == 1 and result.stderr.count(b'\n') == 1, result
            assert b'Could not look into snapshot' in result.stderr, result.stderr
    assert good < 25


def test_gdb(t):
    """A guest in supervisor mode behind page tables: gdb finds its way by virtual addresses."""
    gdb, gcc = shutil.which('gdb-multiarch'), shutil.which('riscv64-linux-gnu-gcc')
    if not gdb or not gcc:
        raise tap.Skip('no gdb-multiarch' if not gdb else 'no riscv64-linux-gnu-gcc')
    elf, binary, image = t.rig.path('deep.elf'), t.rig.path('deep.bin'), t.rig.image('deep.qcow2')
    run(gcc, '-march=rv64gc', '-mabi=lp64d', '-mcmodel=medany', '-O1', '-g', '-ffreestanding',
        '-fno-stack-protector', '-fno-pic', '-no-pie', '-nostdlib', '-static',
        '-Wl,--build-id=none,-Ttext=0xffffffc000000000', '-o', elf,
        os.path.join(os.path.dirname(__file__), 'deep.c'))
    run('riscv64-linux-gnu-objcopy', '-O', 'binary', elf, binary)
    t.rig.stop()
    with VM(SYSTEM, ['-m', '32M', '-bios', binary, '-blockdev',
                     f'qcow2,node-name=n,file.driver=file,file.filename={image}']) as vm:
        vm.serial.expect('hh')
        vm.qmp.run_job('snapshot-save', 'j', tag='t', **on('n'))
        vm.quit()
    run(IMG, 'vmstate', 'mount', image, 't', t.mnt)
    out = run(gdb, '-q', '-batch', '-nx', '-ex', f'file {elf}', '-ex',
              f'core-file {t.mnt}/core.elf', '-ex', 'bt', '-ex', 'print/x marker', '-ex',
              'x/gx 0x80000000', '-ex', 'x/gx 0xffffffc000000000', '-ex', 'info threads').stdout
    run('umount', t.mnt)
    out = out.decode()
    frames = re.findall(r'^#\d+ .*?(\w+) \(', out, re.M)
    assert frames[1:5] == ['inner', 'middle', 'outer', 'kmain'], out
    assert '= 0x1122334455667788' in out, out
    low, high = re.findall(r'^0x\S+?(?: <\S+>)?:\s+(0x[0-9a-f]+)$', out, re.M)[:2]
    assert low == high and 'LWP 1' in out, out
    t.rig.start()


if __name__ == '__main__':
    if not os.path.exists('/dev/fuse'):
        print('1..0 # SKIP no /dev/fuse')
        sys.exit(0)
    if os.geteuid() != 0 and not shutil.which('fusermount3'):
        print('1..0 # SKIP neither root nor fusermount3')
        sys.exit(0)
    inside = Inside()
    try:
        tap.run(sys.modules[__name__], inside, needs_guest=False)
    finally:
        inside.end()
