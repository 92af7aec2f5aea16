# SPDX-License-Identifier: GPL-2.0-or-later
"""Where something stands in a schema, and the one exception of the generator."""


class Source:
    """A line in a schema file; name is the path as the user gave it."""

    def __init__(self, name, line=0):
        self.name = name
        self.line = line

    def __str__(self):
        return f'{self.name}:{self.line}' if self.line else self.name


class QAPIError(Exception):
    """An error in the schema: 'FILE:LINE: MESSAGE'."""

    def __init__(self, source, message):
        super().__init__(f'{source}: {message}')
