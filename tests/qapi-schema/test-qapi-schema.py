#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
Feeds every schema in this folder to the generator and compares what it says with the .err
file beside it (empty: accepted).  --update rewrites the .err files.  Output is TAP.
"""

import os
import sys

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', '..', 'scripts'))

from qapi.main import generate  # noqa: E402  pylint: disable=wrong-import-position
from qapi.parser import Parser  # noqa: E402  pylint: disable=wrong-import-position
from qapi.schema import Schema  # noqa: E402  pylint: disable=wrong-import-position
from qapi.source import QAPIError  # noqa: E402  pylint: disable=wrong-import-position


def outcome(name):
    """What the generator prints for a schema."""
    try:
        generate(Schema(Parser(name)))
    except QAPIError as err:
        return f'{err}\n'
    return ''


def main():
    """Runs all cases; returns the exit status."""
    os.chdir(HERE)
    names = sorted(n for n in os.listdir('.') if n.endswith('.json'))
    print(f'1..{len(names)}')
    failed = 0
    for number, name in enumerate(names, 1):
        got = outcome(name)
        golden = name[:-len('.json')] + '.err'
        if '--update' in sys.argv:
            with open(golden, 'w', encoding='utf-8') as file:
                file.write(got)
        with open(golden, encoding='utf-8') as file:
            want = file.read()
        if got == want:
            print(f'ok {number} {name}')
        else:
            failed = 1
            print(f'not ok {number} {name}')
            print(f'# expected: {want!r}\n# got:      {got!r}')
    return failed


if __name__ == '__main__':
    sys.exit(main())
