"""Signals that wait for the end of a training step."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

from wsae_plugin.distributed.launch import is_later

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_STDERR = 2


class Interruption:
    """While entered, the first SIGINT or SIGTERM is only noted; the second acts as it always did.

    Outside the main thread, where Python has no signal handlers, nothing is changed.

    Args:
        counts_again: Whether a second signal does anything. Of several processes a terminal and a
            scheduler signal each and whoever started them, who passes the signal on.

    Example:
        >>> with Interruption() as interruption:
        ...     interruption.signal_name is None
        True
    """

    def __init__(self, counts_again: bool = True) -> None:
        self._counts_again = counts_again
        self.signal_name: str | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self.signal_name is None:
            self.signal_name = signal.Signals(number).name
            # Not through logging: the signal may have come while a line was being written.
            if not is_later():
                again = b"; again to stop at once" if self._counts_again else b""
                os.write(_STDERR, b"\nStopping after this step" + again + b".\n")
            return
        if self._counts_again:
            self._restore()
            signal.raise_signal(signal.Signals(number))

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
