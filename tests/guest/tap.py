# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the functions named test_* of a module in order and prints TAP."""

import os
import sys
import traceback

from kfvm import guest_dir


class Skip(Exception):
    """Raised by a test that cannot be run here; its text says why."""


def run(module, *args, needs_guest=True):
    """args go to each test.  Exits with 1 if one failed."""
    if needs_guest and not os.path.exists(os.path.join(guest_dir(), 'initrd.gz')):
        print('1..0 # SKIP no guest: make guest', flush=True)
        return
    tests = [(n, f) for n, f in vars(module).items() if n.startswith('test_') and callable(f)]
    print(f'1..{len(tests)}', flush=True)
    failed = 0
    for number, (name, function) in enumerate(tests, 1):
        try:
            function(*args)
            print(f'ok {number} - {name[5:]}', flush=True)
        except Skip as why:
            print(f'ok {number} - {name[5:]} # SKIP {why}', flush=True)
        except Exception:  # a failing test must not keep the others from running
            failed += 1
            for line in traceback.format_exc().splitlines():
                print(f'# {line}')
            print(f'not ok {number} - {name[5:]}', flush=True)
    sys.exit(1 if failed else 0)
