#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Transactions under a guest that stamps its memory and two disks, which live in different
IOThreads: what one transaction takes is of one instant, and a transaction that fails leaves
the guest, the nodes and the files as they were.

usage: transactions.py KF-SYSTEM STAMP-GUEST
"""

import os
import subprocess
import sys

from kfvm import QMPError
from rig import check_image, fails, fault, tags
from stamped import Stamped
import tap

PROGRAM, PAYLOAD = sys.argv[1:3]


def action(kind, **data):
    return {'type': kind, 'data': {k.replace('_', '-'): v for k, v in data.items()}}


def save_action(**more):
    return action('snapshot-save', job_id='save', tag='t', vmstate='d0', devices=['d0'], **more)


def overlay_action(guest, **more):
    return action('blockdev-snapshot-sync', node_name='d1', snapshot_node_name='o1',
                  snapshot_file=os.path.join(guest.dir, 'o1.qcow2'), **more)


def transaction(guest, *actions, **more):
    return guest.vm.qmp.cmd('transaction', actions=list(actions), **more)


def end_of_job(guest, name='save'):
    """Waits for the job, dismisses it and returns its entry."""
    qmp = guest.vm.qmp
    qmp.wait_event('JOB_STATUS_CHANGE',
                   match=lambda d: d['id'] == name and d['status'] == 'concluded')
    job = next(j for j in qmp.cmd('query-jobs') if j['id'] == name)
    qmp.cmd('job-dismiss', id=name)
    return job


def active_nodes(guest):
    """What the two devices are on."""
    return [b['inserted']['node-name'] for b in guest.vm.qmp.cmd('query-block')]


def started(**more):
    guest = Stamped(PROGRAM, PAYLOAD)
    guest.make_images(size='256M')
    guest.start(**more)
    guest.raise_epoch()
    return guest


def quit_vm(guest):
    guest.vm.qmp.cmd('quit')
    guest.vm.process.wait(30)


def loaded(guest, devices):
    """A new process in which the snapshot is loaded; disks not in devices are as they are."""
    guest.launch('-S')
    guest.vm.qmp.run_job('snapshot-load', 'load', tag='t', vmstate='d0', devices=devices)
    guest.vm.qmp.cmd('cont')


def test_machine_and_overlay_are_of_one_instant(_):
    """d0 has machine and disk in it, d1 is what is below its overlay."""
    guest = started()
    for number in range(4):
        transaction(guest, save_action(), overlay_action(guest),
                    action('block-dirty-bitmap-add', node='d0', name='since'))
        assert active_nodes(guest) == ['d0', 'o1']
        guest.raise_epoch()  # memory, d0 and the overlay move on
        job = end_of_job(guest)
        assert 'error' not in job, job
        quit_vm(guest)
        loaded(guest, ['d0'])
        guest.verify(guest.epoch - 1)
        guest.raise_epoch()
        guest.vm.qmp.run_job('snapshot-delete', 'delete', tag='t', devices=['d0'])
        guest.beats()
        print(f'# instant {number}: {job["snapshot-stats"]["downtime-us"]} us', flush=True)
    guest.stop()
    guest.check(leaks=True)
    guest.close()


def test_machine_and_internal_snapshot(_):
    """The second disk's snapshot by an action of its own, of the same name."""
    guest = started()
    transaction(guest, action('blockdev-snapshot-internal-sync', device='d1', name='t'),
                save_action(mode='stop'))
    assert 'error' not in end_of_job(guest)
    guest.raise_epoch()
    guest.vm.qmp.run_job('snapshot-load', 'load', tag='t', vmstate='d0', devices=['d0', 'd1'])
    guest.verify(1)
    quit_vm(guest)
    guest.check()
    assert guest.tags() == [['t'], ['t']]
    guest.close()


def unchanged(guest, epoch):
    """As before the transaction: graph, files, bitmaps, jobs; and the guest finds all right."""
    qmp = guest.vm.qmp
    assert active_nodes(guest) == ['d0', 'd1']
    nodes = qmp.cmd('query-named-block-nodes', flat=True)
    assert not [n for n in nodes if n['node-name'] == 'o1' or n['ro'] or
                n.get('dirty-bitmaps') or n['image'].get('snapshots')], nodes
    assert not qmp.cmd('query-jobs')
    assert not os.path.exists(os.path.join(guest.dir, 'o1.qcow2'))
    guest.verify(epoch)
    guest.raise_epoch()
    guest.verify(epoch + 1)


def test_refused(_):
    guest = started()
    also = overlay_action(guest), action('block-dirty-bitmap-add', node='d1', name='b')
    nodes = save_action()
    nodes['data']['devices'] = ['d0', 'd1']
    for text, *actions in [
            ("Transaction aborted using Abort action", *also, save_action(), action('abort')),
            ("Bitmap already exists: b", save_action(), *also, also[1]),
            ("only once", save_action(), save_action(), *also),
            ("Node 'd1' takes part in another action", nodes, *also),
            ("vmstate block device 'd1' does not exist",
             action('snapshot-save', job_id='j', tag='t', vmstate='d1', devices=['d0']), *also),
            ("Invalid job ID", *also,
             action('snapshot-save', job_id='9', tag='t', vmstate='d0', devices=['d0']))]:
        fails(lambda: transaction(guest, *actions), text)
        unchanged(guest, guest.epoch)
    # A backup that fails later cannot undo a snapshot.
    backup = action('blockdev-backup', job_id='copy', device='d1', target='d0', sync='full')
    fails(lambda: transaction(guest, save_action(), backup, *also,
                              properties={'completion-mode': 'grouped'}),
          "Action 'blockdev-backup' does not support Transaction property completion-mode")
    unchanged(guest, guest.epoch)
    guest.stop()
    guest.check(leaks=True)
    guest.close()


def test_each_write_before_the_instant_fails(_):
    """Of the disk that takes the machine; up to the first that comes behind the instant."""
    failed = 0
    for after in range(40):
        guest = Stamped(PROGRAM, PAYLOAD)
        guest.make_images(size='256M')
        guest.launch('-S')
        # the rule goes to a node of its own, on which the guest does not write
        path = os.path.join(guest.dir, 'state.qcow2')
        subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', path, '64M'], check=True)
        guest.vm.qmp.cmd('blockdev-add', driver='qcow2', node_name='state', file={
            'driver': 'blkdebug', 'inject-error': [fault('write', after, 28)],
            'image': {'driver': 'file', 'filename': path}})
        guest.vm.qmp.cmd('cont')
        guest.vm.serial.expect('hh', 60)
        save = action('snapshot-save', job_id='save', tag='t', vmstate='state',
                      devices=['state', 'd0'])
        try:
            transaction(guest, overlay_action(guest), save)
            late = True
        except QMPError as error:
            assert 'No space left on device' in error.desc, error.desc
            late = False
            failed += 1
            unchanged(guest, 0)
        if late:
            job = end_of_job(guest)
            print(f'# write {after} comes behind the instant: {job.get("error")}', flush=True)
            guest.beats()
            guest.verify(0)
        guest.close()
        if late:
            break
    assert late


def test_machine_fails_behind_the_instant(_):
    """The others stay, or go with it: as completion-mode says."""
    for grouped in (False, True):
        guest = Stamped(PROGRAM, PAYLOAD)
        guest.make_images(size='256M')
        guest.launch('-S')
        path = os.path.join(guest.dir, 'state.qcow2')
        subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', path, '64M'], check=True)
        guest.vm.qmp.cmd('blockdev-add', driver='qcow2', node_name='state', file={
            'driver': 'blkdebug', 'inject-error': [fault('write', 5, 28, once=False)],
            'image': {'driver': 'file', 'filename': path}})
        guest.vm.qmp.cmd('cont')
        guest.vm.serial.expect('hh', 60)
        save = action('snapshot-save', job_id='save', tag='t', vmstate='state',
                      devices=['state', 'd0'])
        more = {'properties': {'completion-mode': 'grouped'}} if grouped else {}
        transaction(guest, overlay_action(guest), save, **more)
        job = end_of_job(guest)
        assert 'No space left on device' in job['error'], job
        if grouped:
            unchanged(guest, 0)
        else:
            assert active_nodes(guest) == ['d0', 'o1']
            guest.verify(0)
            guest.raise_epoch()
        quit_vm(guest)
        guest.check(leaks=True)
        assert tags(guest.images[0]) == []
        if not grouped:
            check_image(os.path.join(guest.dir, 'o1.qcow2'))
        guest.close()


def main():
    tap.run(sys.modules[__name__], None, needs_guest=False)


main()
