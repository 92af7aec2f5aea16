# SPDX-License-Identifier: GPL-2.0-or-later
"""The block layer beside QEMU's, without a guest: requests of 4 KiB all over a full qcow2 image,
the first write to each cluster after a snapshot, conversions, snapshots and checks of an image
with all its metadata, opening an image of 16 TiB.

Both programs' `bench` command sends the requests, in the same order: with a step of an odd
number of blocks that is far larger than a cluster, it comes to every block of the disk once before
it comes to one again.  fio on the raw file, where it is installed, says what the disk gives.
"""

import json
import os
import re
import shutil
import statistics
import subprocess
import time

from figures import in_turn

BLOCK = 4096
CLUSTER = 65536
# Sizes in MiB: all, and a small try (scale 'small').
SCALES = {'full': {'disk': 4096, 'requests': 40000, 'convert': 4096, 'metadata': 64 << 10},
          'small': {'disk': 128, 'requests': 2000, 'convert': 64, 'metadata': 1 << 10}}


def programs(build):
    return {'qemu': shutil.which('qemu-img'), 'keyframe': os.path.join(build, 'tools', 'kf-img')}


def seconds(*command):
    """Of a run that begins when nothing is left to be written to the disk."""
    os.sync()
    start = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - start


def fill(path, mib):
    """A raw file that cannot be compressed, and half of which can: as disks are."""
    with open(path, 'wb') as out:
        for i in range(mib):
            out.write(os.urandom(1 << 20) if i % 2 else os.urandom(256) * 4096)
        os.fsync(out.fileno())


def warm(path):
    """Brings a file into the page cache."""
    with open(path, 'rb') as file:
        while file.read(16 << 20):
            pass


def stride(mib, unit):
    """Bytes from one request to the next: an odd number of units, about 0.38 of the disk."""
    return (int((mib << 20) // unit * 0.382) | 1) * unit


def requests(program, image, scale, depth, cache, write, unit=BLOCK, count=None):
    """Requests per second of the program's own bench."""
    count = count or scale['requests'] // (1 if depth > 1 else 4)
    command = [program, 'bench', '-f', 'qcow2', '-c', str(count), '-d', str(depth), '-s', str(BLOCK),
               '-S', str(stride(scale['disk'], unit)), '-t', cache, image]
    if write:
        command.insert(2, '-w')
    os.sync()
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return count / float(re.search(r'completed in ([\d.]+) seconds', out).group(1))


def fio(path, scale, depth, cache, write):
    """The same of fio on the raw file; None where it is not installed."""
    if not shutil.which('fio'):
        return None
    count = scale['requests'] // (1 if depth > 1 else 4)
    os.sync()
    out = subprocess.run(
        ['fio', '--name=raw', f'--filename={path}', '--ioengine=io_uring', f'--iodepth={depth}',
         f'--rw=rand{"write" if write else "read"}', f'--bs={BLOCK}', f'--number_ios={count}',
         f'--direct={int(cache == "none")}', '--invalidate=0', '--output-format=json'],
        check=True, capture_output=True, text=True).stdout
    return json.loads(out)['jobs'][0]['write' if write else 'read']['iops']


def bench_requests(tools, directory, raw, scale, rounds, table):
    image = os.path.join(directory, 'full.qcow2')
    subprocess.run([tools['qemu'], 'convert', '-f', 'raw', '-O', 'qcow2', '-S', '0', raw, image],
                   check=True)
    for cache in ('none', 'writeback'):
        for write in (False, True):
            for depth in (1, 32):
                found = {name: [] for name in tools}
                plain = []
                if cache == 'writeback':
                    warm(image)
                    warm(raw)
                for i in range(rounds):
                    for name, program in in_turn(tools, i):
                        found[name].append(requests(program, image, scale, depth, cache, write))
                    plain.append(fio(raw, scale, depth, cache, write))
                q, k = (statistics.median(found[n]) for n in ('qemu', 'keyframe'))
                what = f'4 KiB {"writes" if write else "reads"}, cache={cache}, depth {depth}'
                table.add(what, '1/s', q, k, '>= QEMU', k >= q)
                if depth > 1 and plain[0]:
                    share, theirs = (100 * n / statistics.median(plain) for n in (k, q))
                    table.add('the same, share of what fio reaches on the raw file', '%', theirs,
                              share, '>= 90 %', share >= 90)
    return image


def bench_after_snapshot(tools, directory, full, scale, rounds, table):
    """Each request comes to another cluster, all of which the snapshot has."""
    image = os.path.join(directory, 'copy.qcow2')
    clusters = (scale['disk'] << 20) // CLUSTER
    for depth in (1, 32):
        found = {name: [] for name in tools}
        for i in range(rounds):
            for name, program in in_turn(tools, i):
                shutil.copyfile(full, image)
                subprocess.run([program, 'snapshot', '-c', 's', image], check=True)
                count = min(clusters, scale['requests'] // 10)
                found[name].append(requests(program, image, scale, depth, 'none', True, CLUSTER,
                                            count))
        os.unlink(image)
        q, k = (statistics.median(found[n]) for n in ('qemu', 'keyframe'))
        table.add(f'first write to a cluster after a snapshot, depth {depth}', '1/s', q, k,
                  '>= 2 x QEMU', k >= 2 * q)


def bench_convert(tools, directory, scale, rounds, table):
    raw, packed, again = (os.path.join(directory, n) for n in ('c.raw', 'c.qcow2', 'd.raw'))
    fill(raw, scale['convert'])
    kinds = [('raw to qcow2', ['-O', 'qcow2', '-f', 'raw', raw, packed]),
             ('qcow2 to raw', ['-O', 'raw', '-f', 'qcow2', packed, again]),
             ('raw to qcow2, zstd', ['-c', '-O', 'qcow2', '-o', 'compression_type=zstd', '-f', 'raw',
                                     raw, packed])]
    for what, arguments in kinds:
        found = {name: [] for name in tools}
        for i in range(rounds):
            for name, program in in_turn(tools, i):
                found[name].append(seconds(program, 'convert', *arguments))
        q, k = (statistics.median(found[n]) for n in ('qemu', 'keyframe'))
        table.add(f'convert {scale["convert"]} MiB {what}', 's', q, k, '<= QEMU', k <= q)
    for path in (raw, packed, again):
        os.unlink(path)


def bench_metadata(tools, directory, scale, rounds, table):
    """An image whose every L2 table is there; its clusters are holes in the file."""
    steps = [('snapshot -c', ['snapshot', '-c', 's']), ('snapshot -a', ['snapshot', '-a', 's']),
             ('check', ['check', '-q']), ('snapshot -d', ['snapshot', '-d', 's'])]
    image = os.path.join(directory, 'metadata.qcow2')
    found = {(step, name): [] for step, _ in steps for name in tools}
    for i in range(rounds):
        for name, program in in_turn(tools, i):
            subprocess.run([tools['qemu'], 'create', '-q', '-f', 'qcow2', '-o',
                            'preallocation=metadata', image, f'{scale["metadata"]}M'], check=True)
            for step, arguments in steps:
                found[step, name].append(seconds(program, *arguments, image))
    os.unlink(image)
    for step, _ in steps:
        q, k = (statistics.median(found[step, n]) * 1e3 for n in ('qemu', 'keyframe'))
        table.add(f'{step}, {scale["metadata"] >> 10} GiB with all metadata', 'ms', q, k, '<= QEMU',
                  k <= q)


def bench_open(tools, directory, rounds, table):
    image = os.path.join(directory, 'sparse.qcow2')
    found = {name: [] for name in tools}
    subprocess.run([tools['qemu'], 'create', '-q', '-f', 'qcow2', image, '16T'], check=True)
    for i in range(rounds):
        for name, program in in_turn(tools, i):
            found[name].append(seconds(program, 'bench', '-f', 'qcow2', '-c', '1', image))
    os.unlink(image)
    q, k = (statistics.median(found[n]) * 1e3 for n in ('qemu', 'keyframe'))
    table.add('open a sparse 16 TiB image, read once', 'ms', q, k, '<= QEMU', k <= q)


def bench(build, directory, rounds, table, scale='full'):
    tools, scale = programs(build), SCALES[scale]
    if not tools['qemu']:
        print('blocks: qemu-img is not installed (scripts/install-deps)')
        return
    raw = os.path.join(directory, 'full.raw')
    fill(raw, scale['disk'])
    full = bench_requests(tools, directory, raw, scale, rounds, table)
    os.unlink(raw)
    bench_after_snapshot(tools, directory, full, scale, rounds, table)
    os.unlink(full)
    bench_convert(tools, directory, scale, rounds, table)
    bench_metadata(tools, directory, scale, rounds, table)
    bench_open(tools, directory, rounds, table)
