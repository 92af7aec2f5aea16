# SPDX-License-Identifier: GPL-2.0-or-later
"""A VM under measurement: its workload, a polling second session, a listener on the
heartbeat, and what a snapshot command's job did."""

import os
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'guest'))
from figures import in_turn  # noqa: E402
from kfvm import Meter, VM, disk_args, linux_args  # noqa: E402


def boot(binary, image, memory, extra=()):
    """memory: MiB.  The VM at its shell; boot_seconds is the time to init."""
    start = time.monotonic()
    vm = VM(binary, linux_args(f'{memory}M') + disk_args(image) + list(extra), monitors=3)
    vm.serial.expect('GUEST READY', 120)
    vm.boot_seconds = time.monotonic() - start
    vm.serial.expect('guest#', 30)
    return vm


FULL_SAVES = ('-machine', 'snapshot-tracking=off')  # Keyframe's: each save writes everything


class Session:
    def __init__(self, build, name, binary, image, memory, fill, rate, incremental=False):
        """memory, fill: MiB; rate: MiB per second that the guest rewrites."""
        self.name = name
        extra = FULL_SAVES if name == 'keyframe' and not incremental else ()
        self.vm = boot(binary, image, memory, extra)
        self.vm.serial.send(f'workload fill={fill} rate={rate} beat=1000\n')
        self.vm.serial.expect('WORKLOAD READY', 300)
        self.vm.serial.close()
        self.meters = {'poll': Meter(build, 'qmp', self.vm.qmp_paths[1], 500),
                       'beat': Meter(build, 'beat', self.vm.serial_path)}
        if os.geteuid() == 0:  # real-time threads need the privilege
            self.meters['host'] = Meter(build, 'host')
        time.sleep(1)  # the workload's steady state is what is measured

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def window(self, action):
        """Runs action() in a window of all meters: a dict of their figures, the result and
        the seconds it took."""
        ours = self.name == 'keyframe'
        if ours:
            self.vm.qmp.cmd('query-main-loop-stats', reset=True)
        for meter in self.meters.values():
            meter.begin()
        start = time.monotonic()
        result = action()
        took = time.monotonic() - start
        time.sleep(0.05)  # so that the window ends with a beat
        figures = {name: meter.end() for name, meter in self.meters.items()}
        if ours:
            loop = self.vm.qmp.cmd('query-main-loop-stats')
            figures['loop'] = {'max': loop['longest-us']}
        return {'result': result, 'seconds': took, **figures}

    def job(self, command, **args):
        """Runs a snapshot command.  Returns the seconds to the reply, of a new client's
        handshake just after it and to the end, and the job as query-jobs showed it."""
        qmp = self.vm.qmp
        start = time.monotonic()
        qmp.send({'execute': command, 'arguments':
                  {'job-id': 'bench', **{k.replace('_', '-'): v for k, v in args.items()}}})
        message = qmp.reply(60)
        replied = time.monotonic()
        if 'error' in message:
            raise RuntimeError(message['error']['desc'])
        client = self.vm.session(2, timeout=60)
        connected = time.monotonic()
        client.close()
        qmp.job_states('bench', 'concluded', 300)
        concluded = time.monotonic()
        jobs = [j for j in qmp.cmd('query-jobs') if j['id'] == 'bench']
        if jobs:
            qmp.cmd('job-dismiss', id='bench')
            if 'error' in jobs[0]:
                raise RuntimeError(jobs[0]['error'])
        qmp.events.clear()
        return {'reply': replied - start, 'connect': connected - replied,
                'total': concluded - start, 'info': jobs[0] if jobs else {}}

    def save(self, tag, **args):
        result = self.job('snapshot-save', tag=tag, vmstate='disk0', devices=['disk0'], **args)
        result['mib'] = self.state_mib(result, tag)
        return result

    def load(self, tag, **args):
        return self.job('snapshot-load', tag=tag, vmstate='disk0', devices=['disk0'], **args)

    def delete(self, tag):
        return self.job('snapshot-delete', tag=tag, devices=['disk0'])

    def state_mib(self, result, tag):
        """MiB of machine state that the save wrote."""
        stats = result['info'].get('snapshot-stats')
        if stats:
            return stats['bytes-written'] / 2**20
        for node in self.vm.qmp.cmd('query-named-block-nodes'):
            for snapshot in node['image'].get('snapshots', []):
                if snapshot['name'] == tag:
                    return snapshot['vm-state-size'] / 2**20
        raise RuntimeError('the snapshot is not there')

    def background_snapshot(self):
        """QEMU only: RAM to a pipe."""
        qmp = self.vm.qmp
        qmp.cmd('migrate-set-capabilities', capabilities=[
            {'capability': 'background-snapshot', 'state': True},
            {'capability': 'events', 'state': True}])
        qmp.events.clear()
        qmp.cmd('migrate', uri='exec:cat > /dev/null')
        qmp.wait_event('MIGRATION', 300, lambda d: d['status'] in ('completed', 'failed'))

    def progress(self, kind, i, rounds, window):
        print(f'  {self.name} {kind} {i + 1}/{rounds}: standstill {window["beat"]["max"] / 1e3:.1f} ms, '
              f'query-status p99 {window["poll"]["p99"] / 1e3:.2f}, '
              f'slowest {window["poll"]["max"] / 1e3:.1f} ms', flush=True)

    def rest(self):
        """Machine and meters hold still, so that another session is measured alone."""
        self.vm.qmp.cmd('stop')
        for meter in self.meters.values():
            meter.hold()

    def wake(self):
        for meter in self.meters.values():
            meter.go_on()
        self.vm.qmp.cmd('cont')
        self.vm.qmp.events.clear()
        time.sleep(0.5)  # the steady state again

    def close(self):
        for meter in self.meters.values():
            meter.close()
        self.vm.serial = None
        self.vm.quit()


def in_turns(sessions, found, kind, rounds, action, after=None):
    """Windows of action(session, i), rounds[name] of each session (none if it is not named),
    appended to found[name][kind].  The sessions take turns, from one round to the next, so that
    all see the same times of the host and of its disk; each begins with nothing to write back.
    after(session, i) is not measured."""
    for i in range(max(rounds.values())):
        for name, session in in_turn(sessions, i):
            if i >= rounds.get(name, 0):
                continue
            os.sync()
            session.wake()
            window = session.window(lambda: action(session, i))
            found[name].setdefault(kind, []).append(window)
            session.progress(kind, i, rounds[name], window)
            if after:
                after(session, i)
            session.rest()
