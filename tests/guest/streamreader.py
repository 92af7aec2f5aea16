# SPDX-License-Identifier: GPL-2.0-or-later
"""An independent reader of the migration stream, from its documented format alone.

It needs nothing but the stream: devices are decoded with the JSON description at its end,
and every size in the description is held against the bytes.  Any disagreement raises
StreamError.
"""

import hashlib
import json

PAGE = 4096
EOF, START, PART, END, FULL, SUBSECTION, DESCRIPTION, CONFIGURATION, FOOTER = (
    0, 1, 2, 3, 4, 5, 6, 7, 0x7e)
RAM_SIZES, RAM_PAGE, RAM_END, RAM_CONTINUE = 0x04, 0x08, 0x10, 0x20


class StreamError(Exception):
    pass


def want(condition, text):
    if not condition:
        raise StreamError(text)


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def bytes(self, n):
        want(self.at + n <= len(self.data), f'ends at {len(self.data)}, in the middle of '
             f'{n} bytes from {self.at}')
        self.at += n
        return self.data[self.at - n:self.at]

    def number(self, n):
        return int.from_bytes(self.bytes(n), 'big')

    def string(self):
        return self.bytes(self.number(1)).decode()


class Stream:
    """machine, blocks {name: (length, bitmap, offset of the pages)} or, of a stream without
    places, records {name: {page: bytes}}, devices {(name, instance): {field: value}},
    description."""

    def __init__(self, data):
        self.r = Reader(data)
        self.description = self.read_description(data)
        self.sections = {(d['name'], d['instance_id']): d for d in self.description['devices']}
        self.capabilities, self.blocks, self.records, self.devices = [], {}, {}, {}
        self.order, self.places = [], []
        self.pages_end = self.devices_end = 0
        self.read()
        self.check_sum()

    @staticmethod
    def read_description(data):
        """As a reader without knowledge of the devices finds it: behind the last NUL."""
        start = data.find(b'{', data.rfind(b'\0'))
        want(start >= 5 and data[start - 5] == DESCRIPTION, 'no description at the end')
        want(int.from_bytes(data[start - 4:start], 'big') == len(data) - start,
             'length of the description')
        return json.loads(data[start:])

    def read(self):
        r = self.r
        want(r.bytes(4) == b'QEVM', 'magic')
        want(r.number(4) == 3, 'version')
        want(r.number(1) == CONFIGURATION, 'configuration')
        value = self.structure(self.description['configuration'])
        self.machine = bytes.fromhex(value['name']).decode()
        want(value['len'] == len(self.machine), 'length of the machine type')
        capabilities = value.get('configuration/capabilities')
        if capabilities:
            self.capabilities = [capabilities['capabilities']]
            want(capabilities['caps_count'] == len(self.capabilities), 'capabilities')
        names = {}
        while True:
            mark = r.number(1)
            if mark == EOF:
                self.devices_end = r.at
                break
            section = r.number(4)
            if mark in (START, FULL):
                want(section not in names, f'section id {section} twice')
                names[section] = name, instance = r.string(), r.number(4)
                version = r.number(4)
            else:
                want(mark in (PART, END), f'mark {mark}')
                name, instance = names[section]
            if name == 'ram':
                self.ram()
            else:
                d = self.sections[name, instance]
                want(d['version'] == version, f'version of {name}')
                self.devices[name, instance] = self.structure(d)
                self.order.append((name, instance))
            want((r.number(1), r.number(4)) == (FOOTER, section), f'footer of {name}')
        want(r.number(1) == DESCRIPTION, 'description')
        r.bytes(r.number(4))
        want(r.at == len(r.data), 'bytes behind the description')
        want(set(self.devices) == set(self.sections), 'sections and their descriptions')

    def ram(self):
        r = self.r
        mapped = 'mapped-ram' in self.capabilities
        page_of = None
        while True:
            word = r.number(8)
            flags, value = word % PAGE, word - word % PAGE
            if flags == RAM_END:
                return
            if flags & ~RAM_CONTINUE == RAM_PAGE and not mapped:
                page_of = page_of if flags & RAM_CONTINUE else self.records[r.string()]
                page_of[value // PAGE] = r.bytes(PAGE)
                continue
            want(flags == RAM_SIZES, f'RAM flags {flags}')
            while value:
                name, length = r.string(), r.number(8)
                if not mapped:
                    self.records[name] = {}
                    value -= length
                    continue
                want((r.number(4), r.number(8)) == (1, PAGE), 'header of mapped RAM')
                bitmap_at, pages_at = r.number(8), r.number(8)
                size = (length // PAGE + 63) // 64 * 8
                want(bitmap_at == r.at and pages_at % (1 << 20) == 0 and
                     pages_at >= bitmap_at + size, 'layout of mapped RAM')
                self.blocks[name] = length, r.bytes(size), pages_at
                r.at = pages_at
                r.bytes(length)
                self.pages_end = r.at
                self.places += [(name, length, bitmap_at, pages_at)]
                value -= length

    def check_sum(self):
        """The checksum over headers, bitmaps and devices, if there is one."""
        if 'checksum' not in self.description:
            return
        want(next(iter(self.description)) == 'checksum', 'the checksum is the first member')
        total = hashlib.sha256()
        for name, length, bitmap_at, pages_at in self.places:
            total.update(bytes([len(name)]) + name.encode())
            for number in length, bitmap_at, pages_at:
                total.update(number.to_bytes(8, 'big'))
            total.update(hashlib.sha256(self.blocks[name][1]).digest())
        total.update(self.r.data[self.pages_end:self.devices_end])
        want(self.description['checksum'] == 'sha256:' + total.hexdigest(), 'checksum')

    def pages(self, name):
        """(number, bytes) of each page that is there."""
        length, bitmap, at = self.blocks[name]
        for n in range(length // PAGE):
            if bitmap[n // 8] >> n % 8 & 1:
                yield n, self.r.data[at + n * PAGE:at + (n + 1) * PAGE]

    def structure(self, description):
        value, arrays = {}, {}
        for field in description['fields']:
            name = field['name']
            elements = [self.field(field) for _ in range(field.get('array_len', 1))]
            if 'index' in field:
                want(field['index'] == len(arrays.setdefault(name, [])), f'index of {name}')
                arrays[name] += elements
                value[name] = arrays[name]
            else:
                value[name] = elements if 'array_len' in field else elements[0]
        for sub in description.get('subsections', []):
            want(self.r.number(1) == SUBSECTION, f'subsection {sub["vmsd_name"]}')
            want(self.r.string() == sub['vmsd_name'], f'name of {sub["vmsd_name"]}')
            want(self.r.number(4) == sub['version'], f'version of {sub["vmsd_name"]}')
            value[sub['vmsd_name']] = self.structure(sub)
        return value

    def field(self, field):
        start, kind, size = self.r.at, field['type'], field['size']
        if 'struct' in field:
            value = self.structure(field['struct'])
        elif kind == 'capability':
            value = self.r.string()
        elif kind == 'bool':
            value = bool(self.r.number(size))
        elif kind.startswith('uint'):
            want(int(kind[4:]) == size * 8, f'size of {field["name"]}')
            value = self.r.number(size)
        elif kind.startswith('int'):
            value = int.from_bytes(self.r.bytes(size), 'big', signed=True)
        else:
            value = self.r.bytes(size).hex()
        want(self.r.at - start == size, f'{field["name"]}: the description says {size} bytes, '
             f'there are {self.r.at - start}')
        return value


def plain(value):
    """What a file of devices/ says, with numbers as numbers."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, str) and value.startswith('0x'):
        return int(value, 16)
    return value
