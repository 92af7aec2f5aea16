# SPDX-License-Identifier: GPL-2.0-or-later
"""Snapshots of larger machines under a heavy load, beside QEMU's own ways: 1 and 4 GiB of
RAM, 75 % of it incompressible, 100 MiB/s rewritten; disks of 1 and 64 GiB."""

import contextlib
import os
import socket
import statistics
import subprocess
import tempfile
import time

from figures import middle, worst
from session import Session, boot, disk_args, in_turns, linux_args

RATE_MIB = 100
SATURATE_MIB = 2000  # more than any guest can write: it then writes as fast as it can
BOUNCE_MIB = 64      # the default of bounce-limit


def say(text):
    print(text, flush=True)


def image(directory, name, size, *options):
    path = os.path.join(directory, name + '.qcow2')
    subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', *options, path, size], check=True)
    return path


def dd_mib_per_second(directory, mib):
    """What dd reaches on the same disk, fdatasync included."""
    source, target = (os.path.join(directory, n) for n in ('dd.source', 'dd.target'))
    with open(source, 'wb') as out:
        for _ in range(mib // 16):
            out.write(os.urandom(16 << 20))
    start = time.monotonic()
    subprocess.run(['dd', f'if={source}', f'of={target}', 'bs=1M', 'conv=fdatasync',
                    'status=none'], check=True)
    seconds = time.monotonic() - start
    os.unlink(source)
    os.unlink(target)
    return mib / seconds


def memory_peak(pid, action):
    """MiB that the process grew by at most while action() ran."""
    def field(name):
        with open(f'/proc/{pid}/status', encoding='ascii') as status:
            return next(int(line.split()[1]) for line in status if line.startswith(name + ':')) / 1024

    before = field('VmRSS')
    with open(f'/proc/{pid}/clear_refs', 'w', encoding='ascii') as refs:
        refs.write('5')  # proc(5): the peak begins anew
    action()
    return field('VmHWM') - before


def measure(sessions, rounds, slow_rounds):
    """All windows; slow_rounds: of what stops QEMU for seconds."""
    found = {name: {} for name in sessions}
    both = dict.fromkeys(sessions, rounds)
    few = {**both, 'qemu': slow_rounds}

    def delete(session, i):
        if i < few[session.name] - 1:
            session.delete(f'save{i}')

    in_turns(sessions, found, 'idle', both, lambda s, i: time.sleep(1))
    in_turns(sessions, found, 'background', {'qemu': rounds}, lambda s, i: s.background_snapshot())
    in_turns(sessions, found, 'save', few, lambda s, i: s.save(f'save{i}'), after=delete)
    ours = sessions['keyframe']
    ours.wake()
    found['keyframe']['memory'] = memory_peak(ours.vm.process.pid, lambda: ours.save('memory'))
    ours.delete('memory')
    ours.rest()
    in_turns(sessions, found, 'load', few, lambda s, i: s.load(f'save{few[s.name] - 1}'))
    return found


def downtimes(windows):
    return [w['result']['info']['snapshot-stats']['downtime-us'] / 1e3 for w in windows]


def downtime_rows(table, title, windows):
    times = downtimes(windows)
    table.add(f'{title}: downtime, median', 'ms', None, statistics.median(times), '<= 2 ms',
              statistics.median(times) <= 2)
    table.add(f'{title}: downtime, worst', 'ms', None, max(times), '<= 10 ms', max(times) <= 10)


def above_idle_row(table, title, figure, q, k):
    ours = figure(k['save'], 'beat') - figure(k['idle'], 'beat')
    table.add(title, 'ms', figure(q['background'], 'beat') - figure(q['idle'], 'beat'), ours,
              '<= 5 ms', ours <= 5)


def size_rows(table, title, q, k, dd):
    if 'host' in k['idle'][0]:
        for what, theirs, ours in (('idle', 'idle', 'idle'), ('while saving', 'background', 'save'),
                                   ('while loading', 'load', 'load')):
            table.add(f"({title}: a real-time thread's longest delay, {what})", 'ms',
                      worst(q[theirs], 'host'), worst(k[ours], 'host'))
    downtime_rows(table, f'{title} save', k['save'])
    above_idle_row(table, f"{title} save: standstill above idle's, median "
                   '(QEMU: background-snapshot)', middle, q, k)
    above_idle_row(table, f"{title} save: standstill above idle's, worst", worst, q, k)
    for name, figure, key in (('p99', middle, 'p99'), ('slowest', worst, 'max')):
        theirs, ours = figure(q['background'], 'poll', key), figure(k['save'], 'poll', key)
        table.add(f'{title} save: 2nd session, {name} (QEMU: background-snapshot)', 'ms', theirs,
                  ours, '<= half', ours <= theirs / 2)
    speed = [statistics.median(w['result']['mib'] / w['result']['total'] for w in f['save'])
             for f in (q, k)]
    table.add(f'{title} save: throughput (QEMU: guest stopped)', 'MiB/s', *speed, '>= QEMU',
              speed[1] >= speed[0])
    table.add(f'{title} save: share of dd with fdatasync', '%', None, 100 * speed[1] / dd,
              '>= 70 %', speed[1] >= 0.7 * dd)
    limit = BOUNCE_MIB + 32
    table.add(f'{title} save: extra memory at its peak', 'MiB', None, k['memory'], f'<= {limit} MiB',
              k['memory'] <= limit)
    for name, figure in (('median', middle), ('worst', worst)):
        theirs, ours = figure(q['load'], 'beat'), figure(k['load'], 'beat')
        table.add(f'{title} load: standstill, {name}', 'ms', theirs, ours, '<= 10 ms', ours <= 10)
    fill = [statistics.median(w['result']['total'] for w in f['load']) for f in (q, k)]
    table.add(f'{title} load: until all RAM is there', 's', *fill, '<= QEMU', fill[1] <= fill[0])


def bench_size(build, binaries, directory, memory, rounds, table):
    fill = memory * 3 // 4
    with contextlib.ExitStack() as stack:
        sessions = {}
        for name, binary in binaries.items():
            say(f'{name}: booting a guest of {memory} MiB and filling {fill} MiB')
            path = image(directory, f'{name}{memory}', '1G')
            stack.callback(os.unlink, path)
            sessions[name] = stack.enter_context(Session(build, name, binary, path, memory, fill,
                                                         RATE_MIB))
            sessions[name].rest()
        found = measure(sessions, rounds, rounds if memory <= 1024 else min(rounds, 3))
    size_rows(table, f'{memory // 1024} GiB', found['qemu'], found['keyframe'],
              dd_mib_per_second(directory, fill))
    return found


def bench_disk(build, binary, directory, rounds, table):
    """The blackout's time must not depend on the disk's size: every cluster allocated."""
    path = image(directory, 'large', '64G', '-o', 'preallocation=metadata')
    session = Session(build, 'keyframe', binary, path, 1024, 256, RATE_MIB)
    windows = []
    try:
        for i in range(rounds):
            windows.append(session.window(lambda: session.save('large')))
            session.delete('large')
    finally:
        session.close()
        os.unlink(path)
    downtime_rows(table, '64 GiB disk, save', windows)
    return windows


def bench_guest_rate(build, binary, directory, rounds, table):
    """How much of its work a guest that does nothing but rewrite memory gets done."""
    path = image(directory, 'rate', '1G')
    session = Session(build, 'keyframe', binary, path, 1024, 768, SATURATE_MIB)
    shares = []
    try:
        for _ in range(rounds):
            idle = session.window(lambda: time.sleep(1))
            save = session.window(lambda: session.save('rate'))
            session.delete('rate')
            rates = [w['beat']['n'] / (w['seconds'] + 0.05) for w in (idle, save)]
            shares.append(100 * rates[1] / rates[0])
    finally:
        session.close()
        os.unlink(path)
    share = statistics.median(shares)
    table.add('save: throughput of a guest that only writes memory', '%', None, share, '>= 80 %',
              share >= 80)
    return shares


def exec_to_heartbeat(binary, path, memory):
    """Seconds from exec until the loaded guest's next sign of life."""
    with tempfile.TemporaryDirectory(prefix='kfbench-') as directory:
        name = os.path.join(directory, 'serial')
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(name)
        listener.listen()
        command = [binary, '-M', 'virt', '-display', 'none', '-nodefaults', '-serial',
                   f'unix:{name}', *linux_args(f'{memory}M'), *disk_args(path), '-loadvm', 'ready']
        start = time.monotonic()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        peer, _ = listener.accept()
        assert peer.recv(1) == b'h'
        took = time.monotonic() - start
        process.kill()
        process.wait()
        peer.close()
        listener.close()
        return took


def bench_template(build, binaries, directory, rounds, table):
    """Machines started from a snapshot: Keyframe's from overlays of one image."""
    medians = {}
    for name, binary in binaries.items():
        path = image(directory, f'template-{name}', '1G')
        session = Session(build, name, binary, path, 1024, 512, 20)
        try:
            session.save('ready')
        finally:
            session.close()
        times = []
        for i in range(rounds):
            disk = path
            if name == 'keyframe':
                disk = image(directory, f'overlay{i}', '1G', '-b', path, '-F', 'qcow2')
            times.append(exec_to_heartbeat(binary, disk, 1024) * 1e3)
            if disk != path:
                os.unlink(disk)
        os.unlink(path)
        medians[name] = statistics.median(times)
    table.add('exec to running guest, from a snapshot of 1 GiB', 'ms', medians['qemu'],
              medians['keyframe'], '<= 60 ms', medians['keyframe'] <= 60)
    return medians


def incremental_idle(binary, directory, rounds, table):
    """Saves of an idle guest of 4 GiB, each a second after the one before, and after a load."""
    path = image(directory, 'incremental', '1G')
    node = {'vmstate': 'disk0', 'devices': ['disk0']}
    vm = boot(binary, path, 4096)
    try:
        vm.serial.send('workload fill=3072 rate=0 beat=0\n')
        vm.serial.expect('WORKLOAD READY', 300)
        vm.qmp.timeout = 120

        def save(tag):
            time.sleep(1)
            stats = vm.qmp.run_job('snapshot-save', tag, tag=tag, **node)['snapshot-stats']
            return {'ms': stats['total-time-us'] / 1e3, 'mib': stats['bytes-written'] / 2**20,
                    'downtime': stats['downtime-us'] / 1e3}

        full = save('full')
        found = [save(f'inc{i}') for i in range(rounds)]
        vm.qmp.run_job('snapshot-load', 'load', tag='inc0', **node)
        loaded = save('loaded')
    finally:
        vm.quit()
        os.unlink(path)
    say(f'  full save {full["ms"]:.0f} ms, {full["mib"]:.0f} MiB')
    for title, times in (('incremental save, idle 4 GiB', found),
                         ('the same after a load', [loaded])):
        for key, unit, goal in (('ms', 'ms', 100), ('mib', 'MiB', 16)):
            value = max(f[key] for f in times)
            table.add(f'{title}: {"time" if key == "ms" else "written"}, worst', unit, None, value,
                      f'< {goal} {unit}', value < goal)
    return {'full': full, 'incremental': found, 'loaded': loaded}


def incremental_busy(build, binary, directory, rounds, table):
    """The same of a guest that writes all the time."""
    path = image(directory, 'incremental', '1G')
    session = Session(build, 'keyframe', binary, path, 4096, 3072, RATE_MIB, incremental=True)
    windows = []
    try:
        session.save('first')
        for i in range(rounds):
            time.sleep(1)
            windows.append(session.window(lambda: session.save(f'next{i}')))
            session.delete(f'next{i - 1}' if i else 'first')
    finally:
        session.close()
        os.unlink(path)
    title = f'incremental save, 4 GiB, {RATE_MIB} MiB/s rewritten'
    table.add(f'{title}: time, median', 'ms', None,
              statistics.median(w['result']['total'] for w in windows) * 1e3)
    table.add(f'{title}: written, median', 'MiB', None,
              statistics.median(w['result']['mib'] for w in windows))
    downtime_rows(table, title, windows)
    return windows


def bench_incremental(build, binary, directory, rounds, table):
    return {'idle': incremental_idle(binary, directory, rounds, table),
            'busy': incremental_busy(build, binary, directory, rounds, table)}


def bench(build, binaries, directory, rounds, table):
    keyframe = binaries['keyframe']
    return {'rate': bench_guest_rate(build, keyframe, directory, rounds, table),
            'disk': bench_disk(build, keyframe, directory, rounds, table),
            'template': bench_template(build, binaries, directory, rounds, table),
            **{memory: bench_size(build, binaries, directory, memory, rounds, table)
               for memory in (1024, 4096)}}
