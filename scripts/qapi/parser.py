# SPDX-License-Identifier: GPL-2.0-or-later
"""
Reads schema files: JSON-like expressions with single quotes, '#' comments and '##'
documentation blocks.  The result is a list of (module, expression, doc, source); what the
expressions mean is schema.py's business.
"""

import os
import re

from .source import QAPIError, Source

TOKEN = re.compile(r"""
    (?P<space>[ \t\r]+) | (?P<newline>\n) | (?P<comment>\#[^\n]*)
  | (?P<punct>[{}\[\]:,]) | (?P<string>'[^'\n]*') | (?P<word>[a-z]+)
  | (?P<bad>.)""", re.VERBOSE)

SECTIONS = ('Returns', 'Since', 'Features', 'Example', 'Examples', 'Note', 'Notes', 'Errors')
MEMBER_LINE = re.compile(r'@([A-Za-z_][A-Za-z0-9_.-]*|[0-9][A-Za-z0-9_.-]*):(?:\s+(.*))?$')
SECTION_LINE = re.compile(r'(%s):(?:\s+(.*))?$' % '|'.join(SECTIONS))


class Doc:
    """A parsed documentation block."""

    def __init__(self, source):
        self.source = source
        self.symbol = None      # None: free-form text
        # Lines of the description, with their indentation and empty ones between them; those
        # of members, features and sections are like it.
        self.text = []
        self.members = {}       # name -> (source, [lines])
        self.features = {}
        self.sections = {}      # 'Since' -> [lines]

    @staticmethod
    def parse(lines, source):
        """lines: [(line number, text without '#')]."""
        doc = Doc(source)
        target, in_features, started = doc.text, False, False
        for number, text in lines:
            where = Source(source.name, number)
            stripped = text.strip()
            if not started:
                if not stripped:
                    continue
                started = True
                match = MEMBER_LINE.match(stripped)
                if match:
                    if match.group(2):
                        raise QAPIError(where, "text must start on the line after '@%s:'"
                                        % match.group(1))
                    doc.symbol = match.group(1)
                    continue
                if stripped.startswith('@'):
                    raise QAPIError(where, "line must read '@name:'")
            if doc.symbol is None:
                doc.text.append(stripped)
                continue
            line = text.rstrip()
            if not text.startswith('    '):     # indented lines continue what is above
                match = MEMBER_LINE.match(stripped)
                if match:
                    table = doc.features if in_features else doc.members
                    if match.group(1) in table:
                        raise QAPIError(where, f"'@{match.group(1)}' is documented twice")
                    target = []
                    table[match.group(1)] = (where, target)
                    line = match.group(2) or ''
                else:
                    match = SECTION_LINE.match(stripped)
                    if match:
                        name = match.group(1)
                        if name in doc.sections and not name.startswith(('Example', 'Note')):
                            raise QAPIError(where, f"duplicate section '{name}:'")
                        in_features = name == 'Features'
                        target = doc.sections.setdefault(name, [])
                        line = match.group(2) or ''
                    elif stripped.startswith('@'):
                        raise QAPIError(where, "line must read '@name: text'")
            if line or target:
                target.append(line)
        if not started:
            raise QAPIError(source, 'documentation block is empty')
        return doc

    def check_complete(self):
        """Text for the entity, each member and each feature, and since when it exists."""
        if not self.text:
            raise QAPIError(self.source, f"'{self.symbol}' has no description")
        for table, what in ((self.members, 'member'), (self.features, 'feature')):
            for name, (source, lines) in table.items():
                if not lines:
                    raise QAPIError(source, f"{what} '{name}' has no description")
        for name, lines in self.sections.items():
            if not lines and name != 'Features':
                raise QAPIError(self.source, f"section '{name}:' is empty")
        if 'Since' not in self.sections:
            raise QAPIError(self.source, f"'{self.symbol}' has no 'Since:' line")


class Lexer:
    """Splits a file into tokens (kind, value, line); '##' blocks become one token."""

    def __init__(self, text, name):
        self.name = name
        self.tokens = []
        self.doc_lines, self.doc_start = None, 0
        self._scan(text)

    def _scan(self, text):
        line, pos = 1, 0
        while pos < len(text):
            match = TOKEN.match(text, pos)
            kind, value = match.lastgroup, match.group()
            pos = match.end()
            if kind == 'newline':
                line += 1
            elif kind == 'comment':
                self._comment(value, line)
            elif kind != 'space':
                if self.doc_lines is not None:
                    raise QAPIError(Source(self.name, line),
                                    "documentation comment must end with '##'")
                self._token(kind, value, line)
        if self.doc_lines is not None:
            raise QAPIError(Source(self.name, self.doc_start),
                            "documentation comment is not closed with '##'")
        self.tokens.append(('end', '', line))

    def _comment(self, value, line):
        if value == '##':
            if self.doc_lines is None:
                self.doc_lines, self.doc_start = [], line
            else:
                doc = Doc.parse(self.doc_lines, Source(self.name, self.doc_start))
                self.tokens.append(('doc', doc, self.doc_start))
                self.doc_lines = None
        elif self.doc_lines is not None:
            if len(value) > 1 and value[1] != ' ':
                raise QAPIError(Source(self.name, line), "missing space after '#'")
            self.doc_lines.append((line, value[2:]))

    def _token(self, kind, value, line):
        if kind == 'bad':
            what = 'string is not closed' if value == "'" else f"stray '{value}'"
            raise QAPIError(Source(self.name, line), what)
        if kind == 'word' and value not in ('true', 'false'):
            raise QAPIError(Source(self.name, line), f"stray '{value}'")
        self.tokens.append((kind, value, line))


class Entity:
    """A top-level expression with its documentation and module."""

    def __init__(self, module, expr, doc, source):
        self.module, self.expr, self.doc, self.source = module, expr, doc, source


class Module:
    """A schema file: its short name and the modules it includes directly."""

    def __init__(self, name):
        self.name = name
        self.includes = []
        self.title = name       # of its chapter in the manual


class Pragma:
    """What `pragma` directives of all files add up to."""

    LISTS = ('command-name-exceptions', 'command-returns-exceptions',
             'member-name-exceptions')

    def __init__(self):
        self.lists = {key: set() for key in self.LISTS}

    def update(self, value, source):
        """Merges one pragma expression."""
        if not isinstance(value, dict):
            raise QAPIError(source, "value of 'pragma' must be an object")
        for key, arg in value.items():
            if key == 'doc-required':
                if arg is not True:
                    raise QAPIError(source, "pragma 'doc-required' must be true: "
                                    'documentation is always required')
            elif key in self.LISTS:
                if not (isinstance(arg, list) and all(isinstance(x, str) for x in arg)):
                    raise QAPIError(source, f"pragma '{key}' must be a list of strings")
                self.lists[key].update(arg)
            else:
                raise QAPIError(source, f"unknown pragma '{key}'")


class Parser:
    """Reads a schema and everything it includes, each file once, in order."""

    def __init__(self, path):
        self.entities, self.modules, self.files = [], [], []
        self.pragma = Pragma()
        self._seen = {}
        self.main = self._load(path, None, [])

    def _load(self, path, included_at, stack):
        real = os.path.realpath(path)
        if real in stack:
            raise QAPIError(included_at, f'inclusion loop for {os.path.basename(path)}')
        if real in self._seen:
            return self._seen[real]
        try:
            with open(path, encoding='utf-8') as file:
                text = file.read()
        except (OSError, UnicodeDecodeError) as err:
            reason = err.strerror if isinstance(err, OSError) else str(err)
            raise QAPIError(included_at or path,
                            f"can't read '{os.path.basename(path)}': {reason}") from err
        base = os.path.basename(path)
        if not base.endswith('.json'):
            raise QAPIError(included_at or path, f"file name '{base}' must end in .json")
        module = Module(base[:-len('.json')])
        self._seen[real] = module
        self.files.append(path)
        _FileParser(self, path, text, module, stack + [real]).run()
        self.modules.append(module)
        return module

    def include(self, path, source, module, stack):
        """Reads an included file and remembers the dependency."""
        other = self._load(path, source, stack)
        if other not in module.includes:
            module.includes.append(other)


class _FileParser:
    """Recursive descent over the tokens of one file."""

    def __init__(self, parser, path, text, module, stack):
        self.parser, self.path, self.module, self.stack = parser, path, module, stack
        self.tokens = Lexer(text, path).tokens
        self.pos = 0

    def _source(self):
        return Source(self.path, self.tokens[self.pos][2])

    def _next(self):
        token = self.tokens[self.pos]
        self.pos += 1
        return token

    def run(self):
        """Handles every top-level expression of the file."""
        doc = None
        while self.tokens[self.pos][0] != 'end':
            source = self._source()
            if self.tokens[self.pos][0] == 'doc':
                self._unused(doc)
                doc = self._next()[1]
                if doc.symbol is None:
                    if doc.text[0].startswith('= '):
                        self.module.title = doc.text[0][2:]
                    doc = None
                continue
            if self.tokens[self.pos][1] != '{':
                raise QAPIError(source, "top-level expression must be an object")
            expr = self._value(0)
            if 'include' in expr or 'pragma' in expr:
                self._unused(doc)
                doc = None
                self._directive(expr, source)
            else:
                self.parser.entities.append(Entity(self.module, expr, doc, source))
                doc = None
        self._unused(doc)

    @staticmethod
    def _unused(doc):
        if doc is not None:
            raise QAPIError(doc.source,
                            f"documentation for '{doc.symbol}' is not followed by its definition")

    def _directive(self, expr, source):
        if len(expr) != 1:
            raise QAPIError(source, "'include' and 'pragma' stand alone")
        if 'pragma' in expr:
            self.parser.pragma.update(expr['pragma'], source)
            return
        name = expr['include']
        if not isinstance(name, str):
            raise QAPIError(source, "value of 'include' must be a string")
        self.parser.include(os.path.join(os.path.dirname(self.path), name), source,
                            self.module, self.stack)

    def _value(self, depth):
        source = self._source()
        if depth > 16:
            raise QAPIError(source, 'expression is nested too deeply')
        kind, value, _ = self._next()
        if kind == 'string':
            text = value[1:-1]
            if not re.fullmatch(r'[ -~]*', text) or '\\' in text or '"' in text:
                raise QAPIError(source, 'string may hold printable ASCII without \\ and " only')
            return text
        if kind == 'word':
            return value == 'true'
        if value == '{':
            return self._object(depth)
        if value == '[':
            return self._list(depth)
        raise QAPIError(source, "expected '{', '[', string or boolean")

    def _object(self, depth):
        result = {}
        if self.tokens[self.pos][1] == '}':
            self._next()
            return result
        while True:
            source = self._source()
            kind, value, _ = self._next()
            if kind != 'string':
                raise QAPIError(source, "expected string" + ('' if result else " or '}'"))
            key = value[1:-1]
            source = self._source()
            if self._next()[1] != ':':
                raise QAPIError(source, "expected ':'")
            if key in result:
                raise QAPIError(source, f"duplicate key '{key}'")
            result[key] = self._value(depth + 1)
            source = self._source()
            value = self._next()[1]
            if value == '}':
                return result
            if value != ',':
                raise QAPIError(source, "expected ',' or '}'")

    def _list(self, depth):
        result = []
        if self.tokens[self.pos][1] == ']':
            self._next()
            return result
        while True:
            result.append(self._value(depth + 1))
            source = self._source()
            value = self._next()[1]
            if value == ']':
                return result
            if value != ',':
                raise QAPIError(source, "expected ',' or ']'")
