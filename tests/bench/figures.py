# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of the benchmarks: figures side by side, with their goals."""

import statistics


def fmt(value):
    if value is None:
        return '-'
    if isinstance(value, str):
        return value
    return f'{value:.0f}' if abs(value) >= 100 else f'{value:.3g}'


def in_turn(both, number):
    """What is compared, by name, in another order in each round: the second finds what the first has
    cached, and what the host gave it."""
    return list(both.items())[::-1 if number % 2 else 1]


class Table:
    """Rows of (what, unit, QEMU's, Keyframe's, goal, met or None)."""

    def __init__(self):
        self.rows = []

    def add(self, what, unit, qemu, keyframe, goal='', good=None):
        """good: whether the goal is met; None: a row for comparison only."""
        self.rows.append((what, unit, qemu, keyframe, goal, good))
        verdict = '' if good is None else f' ({goal}: {"yes" if good else "NO"})'
        print(f'  {what}: QEMU {fmt(qemu)}, Keyframe {fmt(keyframe)} {unit}{verdict}', flush=True)

    def show(self):
        lines = [('', 'unit', 'QEMU', 'Keyframe', 'goal', 'met')]
        for what, unit, qemu, keyframe, goal, good in self.rows:
            met = '' if good is None else 'yes' if good else 'NO'
            lines.append((what, unit, fmt(qemu), fmt(keyframe), goal, met))
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        for line in lines:
            print('  '.join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())


def worst(windows, which, key='max'):
    """Milliseconds, over all rounds.  which: 'poll', 'beat' or 'host'."""
    return max(w[which][key] for w in windows) / 1e3


def middle(windows, which, key='max'):
    """Milliseconds, the median of the rounds."""
    return statistics.median(w[which][key] for w in windows) / 1e3
