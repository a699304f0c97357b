"""The ends of a command that come from outside: Ctrl-C, a scheduler's or a container's SIGTERM, a closed terminal."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from types import FrameType, TracebackType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE_SECONDS = 8.0  # to stop what was started; docker stop kills after 10 s


class Interruption:
    """While it is entered, each of these signals raises KeyboardInterrupt in the main thread, once.

    Not an exception of its own: inside a call of Ray's, Ray lets no other one through. Which signal it was is kept
    here. A second signal ends the process at once, and so does an end that takes too long; what is on the disk stays
    whole, and a local Ray ends with its driver. Signals that were ignored before stay so: nohup ignores SIGHUP.

    Attributes:
        number: the signal that came; None while none has.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: dict[signal.Signals, object] = {}
        self._late: threading.Timer | None = None

    @property
    def exit_code(self) -> int:
        """As a shell counts it: 128 and the signal's number."""
        return 128 + (self.number or signal.SIGINT)

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():  # no other thread may set handlers
            heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._came) for number in heard}
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._late is not None:
            self._late.cancel()

    def _came(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            os._exit(self.exit_code)
        self.number = number
        self._late = threading.Timer(GRACE_SECONDS, self._give_up)
        self._late.daemon = True
        self._late.start()
        raise KeyboardInterrupt

    def _give_up(self) -> None:
        with contextlib.suppress(OSError):
            os.write(2, b"interrupted, but what it started does not stop; run the same command again to resume\n")
        os._exit(self.exit_code)
