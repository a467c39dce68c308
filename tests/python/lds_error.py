"""lds_error of the public header, for tests that call the library itself."""

import ctypes


class Error(ctypes.Structure):
    _fields_ = (
        ("struct_size", ctypes.c_size_t),
        ("code", ctypes.c_int),
        ("os_errno", ctypes.c_int),
        ("offset", ctypes.c_uint64),
        ("file_nbytes", ctypes.c_uint32),
        ("tensor_nbytes", ctypes.c_uint32),
        ("message", ctypes.c_char * 1024),
    )

    def __init__(self):
        super().__init__(ctypes.sizeof(self))
