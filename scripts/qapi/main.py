# SPDX-License-Identifier: GPL-2.0-or-later
"""Command line of the generator."""

import argparse
import sys

from .gen_calls import (CommandsGenerator, EventsGenerator, generate_emit_events,
                        generate_init)
from .gen_introspect import IntrospectGenerator
from .gen_manual import ManualGenerator
from .gen_types import TypesGenerator
from .parser import Parser
from .schema import Schema
from .source import QAPIError


def generate(schema):
    """All output files of a schema."""
    files = []
    for module in schema.modules:
        for back_end in (TypesGenerator, CommandsGenerator, EventsGenerator):
            files += back_end(schema, module).generate()
    files += generate_emit_events(schema) + generate_init(schema)
    return files + IntrospectGenerator(schema).generate()


def main():
    """Reads a schema, checks it, writes its files.  Returns the exit status."""
    parser = argparse.ArgumentParser(description='Generate C code from a QAPI schema')
    parser.add_argument('-o', '--output-dir', default='.', help='where the files go')
    parser.add_argument('-n', '--check-only', action='store_true', help='write nothing')
    parser.add_argument('-m', '--module', action='append',
                        help='a module the build expects (may be repeated)')
    parser.add_argument('--manual', metavar='FILE',
                        help='write the reference manual to FILE, as HTML, and nothing else')
    parser.add_argument('schema')
    args = parser.parse_args()
    try:
        schema = Schema(Parser(args.schema))
        if args.module is not None:
            have = {m.name for m in schema.modules}
            for name in sorted(have ^ set(args.module)):
                raise QAPIError(args.schema, f"module '{name}' and the build's list of modules "
                                'do not agree')
        if args.manual:
            with open(args.manual, 'w', encoding='utf-8') as file:
                file.write(ManualGenerator(schema).generate())
        elif not args.check_only:
            for file in generate(schema):
                file.write(args.output_dir)
    except QAPIError as err:
        print(err, file=sys.stderr)
        return 1
    return 0
