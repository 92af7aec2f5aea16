# SPDX-License-Identifier: GPL-2.0-or-later
"""
The reference manual: one HTML page with a chapter for each module and a section for each
entity, from the schema and its documentation.  An entity's section has its name as id.
"""

import html
import re

from .expr import METAS

STYLE = '''
body { font-family: sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; }
section { border-top: 1px solid #ccc; } h3 { margin-bottom: 0.3em; }
h3 small, .note { color: #555; font-weight: normal; font-size: 0.85em; }
pre { background: #f4f4f4; padding: 0.7em; overflow-x: auto; }
table { border-collapse: collapse; } td { padding: 0.2em 1em 0.2em 0; vertical-align: top; }
nav ul { columns: 3; list-style: none; padding: 0; } code { white-space: nowrap; }
'''
FLAGS = (('allow-oob', 'may be sent out of band'),
         ('allow-preconfig', 'may be sent before the machine is made'))


def paragraphs(lines):
    """Text as paragraphs and lists of items; each a list of lines without indentation."""
    result = []
    for line in lines:
        text = line.strip()
        if not text:
            result.append(('', []))
        elif text.startswith('- '):
            result.append(('item', [text[2:]]))
        elif result and result[-1][1]:
            result[-1][1].append(text)
        else:
            result.append(('text', [text]))
    return [(kind, words) for kind, words in result if words]


def example(lines):
    """The lines with the indentation that they have in common taken away."""
    text = '\n'.join(lines).strip('\n').split('\n')
    margin = min((len(t) - len(t.lstrip()) for t in text if t.strip()), default=0)
    return '\n'.join(t[margin:] for t in text)


class ManualGenerator:
    """Writes the page."""

    def __init__(self, schema):
        self.schema = schema
        self.out = []
        self.entities = schema.parser.entities
        self.names = {self._name(e) for e in self.entities}
        self.objects = {('command', c.name): c for c in schema.commands}
        self.objects.update({('event', e.name): e for e in schema.events})
        self.objects.update({(None, t.name): t for t in schema.types.values()})

    # --- Names and types -------------------------------------------------------------

    @staticmethod
    def _meta(entity):
        return next(meta for meta in METAS if meta in entity.expr)

    def _name(self, entity):
        return entity.expr[self._meta(entity)]

    def _object(self, entity):
        meta = self._meta(entity)
        return self.objects[meta if meta in ('command', 'event') else None, self._name(entity)]

    def _link(self, name):
        text = f'<code>{html.escape(name)}</code>'
        return f'<a href="#{name}">{text}</a>' if name in self.names else text

    def _type(self, typ):
        if typ.kind == 'list':
            return 'list of ' + self._type(typ.element)
        return self._link(typ.name)

    # --- Text --------------------------------------------------------------------------

    def _inline(self, lines):
        """Escaped text in which @name stands for a name of the schema."""
        text = html.escape(' '.join(lines), quote=False)
        return re.sub(r'@([A-Za-z_][A-Za-z0-9_-]*)', lambda m: self._link(m.group(1)), text)

    def _text(self, lines, put):
        items = []
        for kind, words in paragraphs(lines):
            if kind == 'item':
                items.append(f'<li>{self._inline(words)}</li>')
                continue
            if items:
                put('<ul>' + ''.join(items) + '</ul>')
                items = []
            put(f'<p>{self._inline(words)}</p>')
        if items:
            put('<ul>' + ''.join(items) + '</ul>')

    def _notes(self, member):
        """What is to be said of a member besides its text."""
        notes = ['optional'] if member.optional else []
        notes += [f.name for f in member.features]
        if member.cond:
            notes.append('if ' + member.cond)
        return f' <span class="note">({html.escape(", ".join(notes))})</span>' if notes else ''

    def _rows(self, members, doc):
        for member in members:
            lines = doc.members[member.name][1] if member.name in doc.members else []
            typ = self._type(member.type) if member.type else ''
            words = [self._inline(words) for _, words in paragraphs(lines)]
            self.out.append(f'<tr><td><code>{html.escape(member.name)}</code></td><td>{typ}</td>'
                            f'<td>{"<br>".join(words)}{self._notes(member)}</td></tr>')

    def _table(self, title, members, doc, more=()):
        if not members and not more:
            return
        self.out.append(f'<p><b>{title}</b></p><table>')
        self._rows(members, doc)
        self.out += [f'<tr><td colspan="3">{line}</td></tr>' for line in more]
        self.out.append('</table>')

    # --- Entities ------------------------------------------------------------------------

    def _members(self, entity, obj, doc):
        meta = self._meta(entity)
        if meta == 'enum':
            self._table('Values', obj.values, doc)
        elif meta == 'alternate':
            self._table('One of', obj.branches, doc)
        elif meta in ('struct', 'union'):
            more = [f'the members of {self._link(obj.base.name)}'] if obj.base else []
            more += [f'when <code>{html.escape(obj.tag_name)}</code> is '
                     f'<code>{html.escape(b.name)}</code>: the members of {self._type(b.type)}'
                     for b in obj.branches]
            self._table('Members', obj.local, doc, more)
        else:
            title = 'Arguments' if meta == 'command' else 'Data'
            if obj.arg and obj.arg.implicit:
                self._table(title, obj.arg.all_members, doc)
            elif obj.arg:
                self._table(title, [], doc, [f'the members of {self._link(obj.arg.name)}'])

    def _section(self, name, lines, obj):
        if name.startswith('Example'):
            self.out += ['<p><b>Example</b></p>', f'<pre>{html.escape(example(lines))}</pre>']
            return
        if name == 'Features':
            return
        typ = f' {self._type(obj.ret)}:' if name == 'Returns' else ''
        body = []
        self._text(lines, body.append)
        joined = '\n'.join(body)
        if joined.startswith('<p>'):
            joined = f'<p><b>{name}:</b>{typ} ' + joined[3:]
        else:
            joined = f'<p><b>{name}:</b>{typ}</p>\n' + joined
        self.out.append(joined)

    def _entity(self, entity):
        obj, doc, name = self._object(entity), entity.doc, self._name(entity)
        self.out.append(f'<section id="{name}"><h3><code>{html.escape(name)}</code> '
                        f'<small>{self._meta(entity)}</small></h3>')
        self._text(doc.text, self.out.append)
        if obj.cond:
            self.out.append(f'<p class="note">Only in a build with {html.escape(obj.cond)}.</p>')
        self._members(entity, obj, doc)
        for feature, (_, lines) in doc.features.items():
            self.out.append(f'<p><b>Feature</b> <code>{html.escape(feature)}</code>: '
                            f'{self._inline(t.strip() for t in lines)}</p>')
        for section, lines in doc.sections.items():
            self._section(section, lines, obj)
        flags = [text for key, text in FLAGS if entity.expr.get(key)]
        if flags:
            self.out.append(f'<p class="note">It {" and ".join(flags)}.</p>')
        self.out.append('</section>')

    def generate(self):
        """The text of the page."""
        modules = [m for m in self.schema.modules if any(e.module is m for e in self.entities)]
        self.out += ['<!DOCTYPE html>', '<html lang="en"><head><meta charset="utf-8">',
                     '<title>Keyframe QMP reference</title>',
                     f'<style>{STYLE}</style></head><body>', '<h1>Keyframe QMP reference</h1>',
                     '<p>All commands, events and types, made from the schema.</p>', '<nav>']
        for module in modules:
            self.out.append(f'<h4><a href="#module-{module.name}">'
                            f'{html.escape(module.title)}</a></h4><ul>')
            self.out += [f'<li>{self._link(self._name(e))}</li>' for e in self.entities
                         if e.module is module]
            self.out.append('</ul>')
        self.out.append('</nav>')
        for module in modules:
            self.out.append(f'<h2 id="module-{module.name}">{html.escape(module.title)}</h2>')
            for entity in self.entities:
                if entity.module is module:
                    self._entity(entity)
        self.out += ['</body></html>', '']
        return '\n'.join(self.out)
