#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks that fail under a guest: what it hears, when it stands, and that what failed is tried
again, here and where its state has gone.  The stamping guest compares every sector that it
reads with what it wrote, and a request that is lost hangs it.

usage: disk-errors.py KF-SYSTEM STAMP-GUEST
"""

import os
import subprocess
import sys

from kfvm import QMP
from rig import fault, wait_status, wait_suspended
from stamped import Stamped
import tap

PROGRAM, PAYLOAD = sys.argv[1:3]
EIO, ENOSPC = 5, 28
LATER = 400  # requests: the guest runs, and we listen to it


class Faulty(Stamped):
    """policy: more of the first disk's -device."""

    def __init__(self, policy='', **kwargs):
        super().__init__(PROGRAM, PAYLOAD, **kwargs)
        self.policy = policy

    def disk_args(self, rules=()):
        args = super().disk_args(rules)
        return [a + self.policy if a.startswith('virtio-blk-device,drive=d0') else a for a in args]


def started(*rules, policy='', **more):
    guest = Faulty(policy)
    guest.make_images(size='256M')
    guest.start(rules=rules, **more)
    return guest


def failed(guest, operation='write', action='stop', nospace=True):
    """Waits for the event of a failed request and returns it."""
    data = guest.vm.qmp.wait_event('BLOCK_IO_ERROR')['data']
    assert data == {'device': '', 'node-name': 'd0', 'operation': operation, 'action': action,
                    'nospace': nospace,
                    'reason': os.strerror(ENOSPC if nospace else EIO)}, data
    return data


def io_status(guest):
    return guest.vm.qmp.cmd('query-block')[0]['io-status']


def stands(guest, state='io-error'):
    guest.vm.qmp.wait_event('STOP')
    assert guest.vm.qmp.cmd('query-status') == {'running': False, 'singlestep': False,
                                                'status': state}


def works(guest):
    guest.beats()
    guest.raise_epoch()  # written to both disks
    guest.verify(guest.epoch)
    assert guest.vm.qmp.cmd('query-status')['status'] == 'running'
    assert io_status(guest) == 'ok'


def goes_on(guest):
    guest.vm.qmp.events.clear()
    guest.vm.qmp.cmd('cont')
    guest.vm.qmp.wait_event('RESUME')
    works(guest)


def test_no_space_stops_by_default():
    guest = started(fault('write', LATER, ENOSPC))
    failed(guest)
    stands(guest)
    events = [e['event'] for e in guest.vm.qmp.events]
    assert io_status(guest) == 'nospace'
    assert 'STOP' not in events, events
    goes_on(guest)
    guest.finish()
    guest.close()


def test_other_errors_are_reported_by_default():
    guest = started(fault('write', LATER, EIO))
    failed(guest, action='report', nospace=False)
    assert guest.vm.qmp.cmd('query-status')['status'] == 'running'
    assert 'STOP' not in [e['event'] for e in guest.vm.qmp.events]
    guest.vm.serial.expect('BAD disk', 20)
    guest.close()


def test_a_late_failure_is_of_the_same_stop():
    """A request that is still under way when the guest stands fails before it goes on."""
    guest = Faulty()
    guest.second_rules = [fault('write', 0, ENOSPC)]
    guest.make_images(size='256M')
    guest.launch('-S', rules=[fault('write', LATER, ENOSPC)])
    first, second = guest.vm.qmp, QMP(guest.vm.qmp_paths[1])
    second.hmp('qemu-io d1 "break write_aio A"')
    first.cmd('cont')
    failed(guest)
    stands(guest)
    first.events.clear()
    first.send({'execute': 'cont'})  # waits for it
    assert second.cmd('query-status')['status'] == 'io-error'
    second.hmp('qemu-io d1 "resume A"')
    assert first.reply() == {'return': {}}
    assert [e['event'] for e in first.events] == ['BLOCK_IO_ERROR', 'RESUME'], first.events
    works(guest)
    assert 'STOP' not in [e['event'] for e in first.events], first.events
    second.close()
    guest.finish()
    guest.close()


def test_a_snapshot_waits_for_a_disk_that_it_leaves_out():
    """A request under way would be lost in the saved machine, or end in the loaded one's RAM."""
    guest = Faulty()
    guest.second_rules = [fault('write', 1 << 40)]
    guest.make_images(size='256M')
    guest.start()
    first, second = guest.vm.qmp, QMP(guest.vm.qmp_paths[1])
    for verb, state in (('save', 'save-vm'), ('load', 'restore-vm')):
        first.cmd('stop')  # a held request would hold the end of this command, too
        second.hmp('qemu-io d1 "break write_aio A"')
        first.cmd('cont')
        wait_suspended(guest.vm, 1 if verb == 'save' else 2)
        first.events.clear()
        first.cmd(f'snapshot-{verb}', job_id=verb, tag='t', vmstate='d0', devices=['d0'])
        first.wait_event('STOP')
        for _ in range(20):
            assert second.cmd('query-status')['status'] == state
        second.hmp('qemu-io d1 "resume A"')
        first.wait_event('RESUME')
        first.job_states(verb, 'concluded')
        assert 'error' not in first.cmd('query-jobs')[0]
        first.cmd('job-dismiss', id=verb)
    guest.raise_epoch()
    second.close()
    guest.finish()
    guest.close()


def test_a_file_system_that_is_full():
    holder = Faulty()
    mount = os.path.join(holder.dir, 'small')
    os.mkdir(mount)
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', mount],
                      capture_output=True, check=False).returncode:
        raise tap.Skip('no permission to mount a tmpfs')
    try:
        guest = Faulty(directory=mount)
        guest.make_images(size='256M')
        filler = os.path.join(mount, 'filler')
        with open(filler, 'wb') as file:
            file.write(bytes(7 << 20))
        guest.launch()
        for _ in range(3):
            guest.vm.qmp.wait_event('BLOCK_IO_ERROR')
            stands(guest)
            guest.vm.qmp.events.clear()
            guest.vm.qmp.cmd('cont')
        guest.vm.qmp.wait_event('BLOCK_IO_ERROR')
        stands(guest)
        os.unlink(filler)
        guest.vm.serial.drain()
        goes_on(guest)
        guest.finish()
    finally:
        subprocess.run(['umount', '-l', mount], check=True)
        holder.close()


def test_stop_and_ignore():
    guest = started(fault('write', LATER, EIO), policy=',werror=stop')
    failed(guest, nospace=False)
    stands(guest)
    assert io_status(guest) == 'failed'
    goes_on(guest)
    guest.finish()
    guest.close()

    guest = started(fault('read', LATER, EIO), policy=',rerror=stop')
    failed(guest, 'read', nospace=False)
    stands(guest)
    goes_on(guest)
    guest.finish()
    guest.close()

    guest = started(fault('flush', 0, EIO), policy=',werror=ignore')
    guest.raise_epoch()
    guest.close()


def test_errors_one_after_the_other():
    """Each makes one request fail; two may do so before the guest stands."""
    guest = started(*[fault('write', LATER + 5 * i, ENOSPC) for i in range(6)])
    seen = 0
    while seen < 6:
        failed(guest)
        wait_status(guest.vm.qmp, 'io-error')
        seen += 1 + sum(e['event'] == 'BLOCK_IO_ERROR' for e in guest.vm.qmp.events)
        guest.vm.qmp.events.clear()
        if seen < 6:
            guest.vm.qmp.cmd('cont')
    goes_on(guest)
    guest.finish()
    guest.close()


def test_reset_forgets_what_failed():
    guest = started(fault('write', LATER, ENOSPC))
    failed(guest)
    stands(guest)
    guest.vm.qmp.cmd('system_reset')
    assert guest.vm.qmp.cmd('query-status')['status'] == 'prelaunch'
    guest.vm.serial.drain()
    guest.vm.qmp.cmd('cont')
    guest.vm.serial.expect('hh', 60)
    assert io_status(guest) == 'ok'
    guest.finish()
    guest.close()


def test_a_snapshot_holds_what_failed():
    guest = started(fault('write', LATER, ENOSPC))
    failed(guest)
    stands(guest)
    guest.save('t')
    assert guest.vm.qmp.cmd('query-status')['status'] == 'io-error'
    goes_on(guest)
    guest.load('t')
    guest.epoch = 0
    if guest.vm.qmp.cmd('query-status')['status'] != 'running':
        guest.vm.qmp.cmd('cont')
    guest.beats()
    guest.raise_epoch()
    guest.verify(1)
    # And in another process.
    assert guest.vm.quit() == 0
    guest.launch('-loadvm', 't')
    guest.epoch = 0
    if guest.vm.qmp.cmd('query-status')['status'] != 'running':
        guest.vm.qmp.cmd('cont')
    guest.beats()
    guest.raise_epoch()
    guest.verify(1)
    guest.finish()
    guest.close()


def test_migration_takes_along_what_failed():
    guest = started(fault('write', LATER, ENOSPC))
    failed(guest)
    stands(guest)
    path = os.path.join(guest.dir, 'migrate')
    target = Faulty(directory=guest.dir)
    target.launch('-incoming', 'defer')
    for vm in (guest.vm, target.vm):
        vm.qmp.cmd('migrate-set-capabilities',
                   capabilities=[{'capability': 'events', 'state': True}])
    target.vm.qmp.cmd('migrate-incoming', uri='unix:' + path)
    guest.vm.qmp.cmd('migrate', uri='unix:' + path)
    guest.vm.qmp.wait_event('MIGRATION', match=lambda d: d['status'] in ('completed', 'failed'))
    info = guest.vm.qmp.cmd('query-migrate')
    assert info['status'] == 'completed', info
    assert guest.vm.qmp.cmd('query-status')['status'] == 'postmigrate'
    assert guest.vm.quit() == 0
    target.vm.qmp.wait_event('MIGRATION', match=lambda d: d['status'] == 'completed')
    assert target.vm.qmp.cmd('query-status')['status'] == 'paused'
    target.epoch = 0
    goes_on(target)
    target.finish()
    target.close()
    guest.close()


def refused(*args):
    result = subprocess.run([PROGRAM, '-M', 'virt', '-nodefaults', '-display', 'none', *args],
                            capture_output=True, text=True, timeout=20, check=False)
    assert result.returncode == 1, result
    return result.stderr.split(': ', 1)[1].strip()


def test_wrong_policies():
    guest = Faulty()
    guest.make_images(size='1M')
    drive = f'file={guest.images[0]},if=none,id=h'
    assert refused('-drive', drive + ',werror=foo') == \
        f"-drive {drive},werror=foo: 'foo' invalid write error action"
    assert refused('-drive', drive + ',rerror=enospc') == \
        f"-drive {drive},rerror=enospc: 'enospc' invalid read error action"
    assert refused('-drive', drive, '-device', 'virtio-blk-device,drive=h,werror=foo') == \
        "-device virtio-blk-device,drive=h,werror=foo: Parameter 'werror' does not accept " \
        "value 'foo'"
    flash = f'file={guest.images[0]},if=pflash,format=raw,werror=stop'
    assert refused('-drive', flash) == \
        f'-drive {flash}: werror is not supported by this bus type'
    guest.close()


if __name__ == '__main__':
    tap.run(sys.modules[__name__], needs_guest=False)
