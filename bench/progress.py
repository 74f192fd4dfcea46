"""Shows on the terminal what is running, how much is left, and how long that will take."""

import sys
import threading
import time


def clock(seconds):
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class Progress:
    """Steps of expected length, one after the other. Updates one line on a terminal; prints one line per step elsewhere."""

    def __init__(self, steps, seconds, stream=sys.stderr):
        self.steps, self.expected, self.stream = steps, seconds, stream
        self.done, self.done_seconds, self.number = 0.0, 0.0, 0
        self.begun = time.monotonic()
        self.what = self.current = None
        self.terminal = stream.isatty()
        if self.terminal:
            threading.Thread(target=self.tick, daemon=True).start()

    def step(self, what, seconds):
        """Begins the next step, which takes about this many seconds."""
        self.finish()
        self.number += 1
        self.what, self.current = what, (seconds, time.monotonic())
        self.show()

    def finish(self):
        if self.current:
            seconds, begun = self.current
            self.done += seconds
            self.done_seconds += time.monotonic() - begun
            self.current = None

    def left(self):
        """The seconds that the rest takes at the pace of the finished steps."""
        pace = self.done_seconds / self.done if self.done else 1.0
        of_this = 0.0
        if self.current:
            seconds, begun = self.current
            of_this = min(seconds * pace, time.monotonic() - begun)
        return max(0.0, (self.expected - self.done) * pace - of_this)

    def show(self):
        gone = time.monotonic() - self.begun
        line = f"[{self.number}/{self.steps}] {self.what} · {clock(gone)} gone, about {clock(self.left())} left"
        if self.terminal:
            self.stream.write(f"\r\x1b[2K{line}")
        else:
            self.stream.write(line + "\n")
        self.stream.flush()

    def tick(self):
        while True:
            time.sleep(1)
            if self.current:
                self.show()

    def end(self):
        self.finish()
        if self.terminal:
            self.stream.write("\r\x1b[2K")
            self.stream.flush()
