"""Attributes of other people's modules, replaced while somebody needs it, and put back after the last.

A replacement is seen by the whole process, since an attribute is. So each asks first whether the thread that
calls it is in a call of ours, and does what the original does if it is not.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    # Owner, name, and what makes the replacement from the original.
    Replacement = tuple[Any, str, Callable[[Any], Any]]

_ABSENT = object()


class Patch:
    """A set of replacements, in place from the first acquire to the last release."""

    def __init__(self, replacements: Callable[[], Iterable[Replacement]]):
        self._replacements = replacements
        self._lock = threading.RLock()
        self._n_holders = 0
        self._saved: list[tuple[Any, str, Any]] = []

    def acquire(self) -> None:
        with self._lock:
            if self._n_holders == 0:
                self._apply()
            self._n_holders += 1

    def release(self) -> None:
        with self._lock:
            self._n_holders -= 1
            if self._n_holders == 0:
                self._restore()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *exception: object) -> None:
        self.release()

    def _apply(self) -> None:
        try:
            for owner, name, make in self._replacements():
                own = vars(owner).get(name, _ABSENT)
                replacement = make(getattr(owner, name) if own is _ABSENT else own)
                self._saved.append((owner, name, own))
                setattr(owner, name, replacement)
        except BaseException:
            self._restore()
            raise

    def _restore(self) -> None:
        while self._saved:
            owner, name, own = self._saved.pop()
            if own is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, own)


def require_plain(function: Any) -> None:
    """TypeError for what a decorator with a scope would leave before the body runs."""
    if (
        inspect.isgeneratorfunction(function)
        or inspect.iscoroutinefunction(function)
        or inspect.isasyncgenfunction(function)
    ):
        name = getattr(function, "__qualname__", repr(function))
        raise TypeError(
            f"{name}: expected a plain function, found one whose body runs later; use with inside it"
        )


class _Thread(threading.local):
    call: Any = None


_thread = _Thread()


@contextlib.contextmanager
def call(state: Any) -> Iterator[None]:
    """What this thread does inside is a call of ours, with this state; of nobody's, if it is None."""
    outer, _thread.call = _thread.call, state
    try:
        yield
    finally:
        _thread.call = outer


def in_call() -> bool:
    """Whether this thread is in a call of ours."""
    return _thread.call is not None


def in_calls(ours: Callable[..., Any]) -> Callable[[Any], Any]:
    """Makes a replacement that is ours(state, original, ...) in calls of ours, and the original elsewhere."""

    def make(original: Any) -> Any:
        wrapper = type(original) if isinstance(original, (classmethod, staticmethod)) else None
        function = original.__func__ if wrapper else original

        @functools.wraps(function)
        def replacement(*args: Any, **kwargs: Any) -> Any:
            if _thread.call is None:
                return function(*args, **kwargs)
            return ours(_thread.call, function, *args, **kwargs)

        return wrapper(replacement) if wrapper else replacement

    return make
