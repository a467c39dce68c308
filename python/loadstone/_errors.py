"""What can go wrong, as exceptions: one class for each group of errors, and some for single ones.

Where Python has an exception that users would catch, ours is one, too.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._report import Report


class LoadstoneError(Exception):
    """The base of all.

    .code is the library's status (see loadstone.h), 0 if the error is the package's own. .file, .tensor (or
    parameter, or field) and .offset (a byte in the file) say what it is about; each may be None. Long paths
    are
    shortened at their left.
    """

    def __init__(
        self,
        message: str,
        code: int = 0,
        file: str | None = None,
        tensor: str | None = None,
        offset: int | None = None,
    ):
        super().__init__(message)
        self.message = message
        self.code = code
        self.file = file
        self.tensor = tensor
        self.offset = offset

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> Any:
        return type(self), (self.message,), dict(self.__dict__)


class ArgumentError(LoadstoneError, ValueError):
    """An argument is out of range, or contradicts another."""


class NameNotFoundError(ArgumentError, KeyError):
    """No such name, or one that is there already."""


class FileError(LoadstoneError, OSError):
    """The operating system refused; .errno says why."""

    def __reduce__(self) -> Any:
        return type(self), (self.message,), {**self.__dict__, "errno": self.errno}


class NotFoundError(FileError, FileNotFoundError):
    """No checkpoint, config or file at that path."""


class ChangedError(FileError):
    """A file changed or shrank since it was opened."""


class MalformedError(LoadstoneError, ValueError):
    """A file breaks the rules of its format."""


class TruncatedError(MalformedError):
    """A file ends before its header says that it does."""


class NotWeightsError(MalformedError):
    """A git-lfs pointer, a web page, or another file with a weights' name."""


class UnsupportedError(LoadstoneError, ValueError):
    """Valid, but not something that this version can do."""


class MismatchError(LoadstoneError, ValueError):
    """Checkpoint and network do not fit; .report says how, if it was a load."""

    report: Report | None = None


class OutOfMemoryError(LoadstoneError, MemoryError):
    """Memory could not be had."""


class CancelledError(LoadstoneError):
    """A load was cancelled."""


_GROUPS: dict[int, type[LoadstoneError]] = {
    1: ArgumentError,
    2: FileError,
    3: MalformedError,
    4: UnsupportedError,
    5: MismatchError,
    6: OutOfMemoryError,
    7: CancelledError,
}

_CODES: dict[int, type[LoadstoneError]] = {
    -11: NameNotFoundError,
    -21: NotFoundError,
    -22: ChangedError,
    -31: TruncatedError,
    -32: NotWeightsError,
}


def make_error(
    code: int,
    message: str,
    file: str | None,
    tensor: str | None,
    offset: int | None,
    errno: int,
    report: dict[str, Any] | None,
) -> LoadstoneError:
    """The exception for an error of the library; _core calls this."""
    cls = _CODES.get(code) or _GROUPS.get(-code // 10, LoadstoneError)
    error = cls(message, code, file, tensor, offset)
    if errno and isinstance(error, OSError):
        error.errno = errno
    if report is not None and isinstance(error, MismatchError):
        from ._report import Report

        error.report = Report(report)
    return error
