"""How things look in a prompt and in a notebook."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_ROWS = 60


def size(nbytes: int) -> str:
    """Bytes for people, in powers of a thousand: "3.39 GB"."""
    value = float(nbytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def count(n: int, what: str) -> str:
    """ "1 tensor", "31,337 tensors"."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def summary(items: Any) -> str:
    """What a mapping of tensors holds: "736 tensors, 3.39 GB"."""
    return f"{count(len(items), 'tensor')}, {size(sum(item.nbytes for item in items.values()))}"


def paragraph(thing: Any) -> str:
    """repr() as HTML."""
    from html import escape

    return f"<p>{escape(repr(thing)[1:-1])}</p>"


def table(items: Any) -> str:
    """A mapping of tensors as an HTML table under its repr(), cut to a length that can be read."""
    from html import escape
    from itertools import islice

    rows = [
        (name, item.dtype, list(item.shape), size(item.nbytes))
        for name, item in islice(items.items(), MAX_ROWS)
    ]
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    if len(items) > MAX_ROWS:
        body += f"<tr><td colspan='4'>and {len(items) - MAX_ROWS:,} more</td></tr>"
    head = "<tr><th>name</th><th>dtype</th><th>shape</th><th>size</th></tr>"
    return f"{paragraph(items)}<table>{head}{body}</table>"


def tensor(t: Any) -> str:
    """repr() of a tensor in memory."""
    return f"<loadstone.Tensor {t.dtype} {list(t.shape)}, {size(t.nbytes)}>"


def checkpoint_tensor(t: Any) -> str:
    """repr() of a tensor of a checkpoint."""
    try:
        t.name  # noqa: B018
    except ValueError:
        return "<loadstone.CheckpointTensor: of a closed checkpoint>"
    return f"<loadstone.CheckpointTensor {t.name!r} {t.dtype} {list(t.shape)}, {size(t.nbytes)}>"


def pool(p: Any) -> str:
    """repr() of a pool."""
    return f"<loadstone.Pool: {size(p.lent_nbytes)} lent, {size(p.idle_nbytes)} idle>"


def parameter(p: Any) -> str:
    """repr() of a parameter."""
    values = f", tied to {p.tied_to!r}" if p.tied_to else "" if p.data_ptr is not None else ", without values"
    return f"<loadstone.Parameter {p.name!r} {p.dtype} {list(p.shape)}{values}>"
