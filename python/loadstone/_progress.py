"""Progress as something to look at: tqdm's bar if it is installed, or else a plain one on standard error."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Bar:
    """A line that is written over until it is done; silent where nobody watches."""

    WIDTH = 30

    def __init__(self) -> None:
        self.is_shown = sys.stderr is not None and sys.stderr.isatty()
        self.has_drawn = False

    def __call__(self, done: int, total: int, seconds: float) -> None:
        if self.is_shown and total:
            bar = "#" * (self.WIDTH * done // total)
            sys.stderr.write(
                f"\r[{bar:<{self.WIDTH}}] {done / 1e9:.2f} of {total / 1e9:.2f} GB, {seconds:.1f} s"
            )
            sys.stderr.flush()
            self.has_drawn = True

    def close(self) -> None:
        if self.has_drawn:
            sys.stderr.write("\n")


class Tqdm:
    """tqdm's bar."""

    def __init__(self, tqdm: Any) -> None:
        self.bar = tqdm(unit="B", unit_scale=True)

    def __call__(self, done: int, total: int, seconds: float) -> None:
        self.bar.total = total
        self.bar.update(done - self.bar.n)

    def close(self) -> None:
        self.bar.close()


def make_bar() -> Bar | Tqdm:
    """The bar of progress=True; its close() ends the line."""
    try:
        from tqdm import tqdm
    except ImportError:
        return Bar()
    return Tqdm(tqdm)
