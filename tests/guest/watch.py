# SPDX-License-Identifier: GPL-2.0-or-later
"""Another session beside what a test does: its query-status is answered all the while."""

import statistics
import threading
import time


class Watch:
    """with Watch(vm) as w: ...; then w.times has the seconds of each answer."""

    def __init__(self, vm):
        self.qmp = vm.session(1, timeout=60)
        self.times, self.states, self.error = [], set(), None
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        try:
            while not self.over.is_set():
                start = time.monotonic()
                self.states.add(self.qmp.cmd('query-status')['status'])
                self.times.append(time.monotonic() - start)
                self.qmp.events.clear()
                self.over.wait(0.001)
        except Exception as error:  # for the thread that joins this one
            self.error = error

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.over.set()
        self.thread.join()
        self.qmp.close()
        if self.error and not any(exc):
            raise self.error

    def median(self):
        return statistics.median(self.times)

    def text(self):
        return (f'{len(self.times)} answers, median {self.median() * 1e3:.2f} ms, '
                f'slowest {max(self.times) * 1e3:.1f} ms')


def idle(vm, seconds=0.3):
    """The median while nothing else happens."""
    with Watch(vm) as w:
        time.sleep(seconds)  # this is the measurement
    return w.median()


def undisturbed(vm, what, function, factor=25):
    """Runs function() while another session is answered as if it were alone: that the median is
    within a factor of the idle one does not depend on how fast the host is; nor does it that
    in a long time no answer took a good part of it."""
    before = max(idle(vm), 2e-4)
    with Watch(vm) as w:
        start = time.monotonic()
        function()
        took = time.monotonic() - start
    print(f'# {what}: the other session had {w.text()}; idle median {before * 1e3:.2f} ms',
          flush=True)
    assert w.times, 'the other session had no answer'
    assert w.median() <= factor * before, 'the other session was held up'
    assert took < 10 or max(w.times) < took / 4, 'the other session was held up for long'
