"""What several open pages ask for in the same moment is computed once. Called by pages with a timer and by server/news.py."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Shared:
    """Remembers the newest value of each key for `seconds`. Callers that come while a value is being computed wait for it
    instead of computing it again; an error reaches all of them and is not remembered. Safe from any thread."""

    def __init__(self, seconds: float, most: int = 64, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds, self.most, self._clock = seconds, most, clock
        self._values: OrderedDict[Hashable, tuple[float, Future[Any]]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, compute: Callable[[], T]) -> T:
        """The value of `key`, at most `seconds` old, counted from when its computation began."""
        with self._lock:
            begun, future = self._values.get(key, (float("-inf"), None))
            now = self._clock()
            if future is not None and now - begun < self.seconds:
                ours = None
            else:
                future = ours = Future()
                self._values[key] = (now, ours)
                self._values.move_to_end(key)
                while len(self._values) > self.most:
                    self._values.popitem(last=False)
        if ours is None:
            return future.result()
        try:
            ours.set_result(compute())
        except BaseException as error:
            self.forget(key, ours)
            ours.set_exception(error)
            raise
        return ours.result()

    def forget(self, key: Hashable, future: Future[Any] | None = None) -> None:
        """Compute `key` anew at the next call: after an act whose effect must be seen at once."""
        with self._lock:
            if future is None or self._values.get(key, (0, None))[1] is future:
                self._values.pop(key, None)

    def clear(self) -> None:
        """Compute everything anew."""
        with self._lock:
            self._values.clear()
