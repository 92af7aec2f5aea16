#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
The reference manual has a section for every entity of the schema, which names every member,
feature and type and tells all that the documentation says; its links lead somewhere.

usage: test-qapi-manual.py SCHEMA MANUAL
"""

import html.parser
import os
import re
import sys

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', '..', 'scripts'))

from qapi.expr import METAS  # noqa: E402  pylint: disable=wrong-import-position
from qapi.parser import Parser  # noqa: E402  pylint: disable=wrong-import-position
from qapi.schema import Schema  # noqa: E402  pylint: disable=wrong-import-position

VOID = ('meta', 'br')


class Page(html.parser.HTMLParser):
    """Collects the text of each section, ids and links; checks that tags are closed."""

    def __init__(self):
        super().__init__()
        self.sections, self.ids, self.links, self.open = {}, [], [], []
        self.section = None

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if 'id' in attrs:
            self.ids.append(attrs['id'])
        if 'href' in attrs:
            self.links.append(attrs['href'])
        if tag == 'section':
            self.section = attrs['id']
            self.sections[self.section] = ''

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, (tag, self.getpos())
        if tag == 'section':
            self.section = None

    def handle_data(self, data):
        if self.section:
            self.sections[self.section] += data + ' '


def plain(text):
    """Words only: how lines are broken and what is marked does not matter."""
    return re.sub(r'[\s@]+', '', re.sub(r'(?m)^\s*- ', '', text))


def words_of(doc):
    """Everything that the documentation of an entity says."""
    yield from [doc.text]
    yield from (lines for _, lines in [*doc.members.values(), *doc.features.values()])
    yield from (lines for name, lines in doc.sections.items() if name != 'Features')


def test_entities(parser, _, page):
    """Each has a section with its name, kind, members and text."""
    assert parser.entities
    for entity in parser.entities:
        meta = next(m for m in METAS if m in entity.expr)
        name = entity.expr[meta]
        text = page.sections[name]
        assert meta in text.split()[:2], (name, text)
        for member in [*entity.doc.members, *entity.doc.features]:
            assert member in text.split(), (name, member)
        for lines in words_of(entity.doc):
            assert plain('\n'.join(lines)) in plain(text), (name, lines)
    assert set(page.sections) == {next(e.expr[m] for m in METAS if m in e.expr)
                                  for e in parser.entities}


def test_types(_, schema, page):
    """Arguments and return values name their types."""
    for command in schema.commands:
        text = page.sections[command.name]
        for member in command.arg.local if command.arg and command.arg.implicit else []:
            typ = member.type.element if member.type.kind == 'list' else member.type
            assert typ.name in text.split(), (command.name, member.name)
        if command.ret:
            ret = command.ret.element if command.ret.kind == 'list' else command.ret
            assert re.search(rf'Returns:\s.*{ret.name}\s*:', text), command.name


def test_chapters(_, schema, page):
    """Modules are chapters."""
    for module in schema.modules:
        if any(c.module is module for c in schema.commands):
            assert 'module-' + module.name in page.ids, module.name


def test_links(_parser, _schema, page):
    """No id twice, no link into nothing, no tag left open."""
    assert len(page.ids) == len(set(page.ids))
    assert page.links
    for link in page.links:
        assert link[0] == '#' and link[1:] in page.ids, link
    assert not page.open


def main():
    """Runs all tests; returns the exit status."""
    parser = Parser(sys.argv[1])
    schema, page = Schema(parser), Page()
    with open(sys.argv[2], encoding='utf-8') as file:
        page.feed(file.read())
    tests = [test_entities, test_types, test_chapters, test_links]
    print(f'1..{len(tests)}')
    failed = 0
    for number, test in enumerate(tests, 1):
        try:
            test(parser, schema, page)
            print(f'ok {number} {test.__name__[5:]}')
        except (AssertionError, KeyError) as error:
            failed = 1
            print(f'# {error!r}\nnot ok {number} {test.__name__[5:]}')
    return failed


if __name__ == '__main__':
    sys.exit(main())
