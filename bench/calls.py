"""What single calls cost through Python, by Loadstone or by another package, in a process of its own:

    calls.py WHO open|tensor|slice FILE         one call, on a file of many small tensors
    calls.py WHO columns|whole FILE N           N columns of the one weight of a file, or all of it
    calls.py WHO convert SRC DST N              N elements, from and into memory that was used before

Prints one JSON object. Calls that are over in microseconds are made in batches, and the median batch counts.
"""

import json
import resource
import statistics
import sys
import time
from functools import partial
from pathlib import Path

N_BATCHES = 21
N_ANNOUNCED = 256


def of_many(call, n):
    """Seconds of one call: the median of batches of n."""
    seconds = []
    for _ in range(N_BATCHES):
        begin = time.perf_counter()
        for _ in range(n):
            call()
        seconds.append((time.perf_counter() - begin) / n)
    return {"seconds": statistics.median(seconds)}


def of_one(call):
    disk = resource.getrusage(resource.RUSAGE_SELF).ru_inblock
    begin = time.perf_counter()
    kept = call()
    seconds = time.perf_counter() - begin
    disk = resource.getrusage(resource.RUSAGE_SELF).ru_inblock - disk
    return {"seconds": seconds, "out_nbytes": kept.nbytes, "disk_nbytes": disk * 512}


def loadstone_call(what, path):
    import loadstone

    if what == "open":
        return of_many(lambda: loadstone.open(path), 20)
    checkpoint = loadstone.open(path)
    names = list(checkpoint)
    tensor = checkpoint[names[len(names) // 2]]
    if what == "tensor":
        return of_many(lambda: checkpoint[names[len(names) // 2]], 2000)
    return of_many(lambda: tensor[2:5], 500)


def safetensors_call(what, path):
    from safetensors import safe_open

    def opened():
        return safe_open(path, "pt").__enter__()

    if what == "open":
        return of_many(opened, 20)
    file = opened()
    names = list(file.keys())
    name = names[len(names) // 2]
    if what == "tensor":
        return of_many(lambda: file.get_tensor(name), 2000)
    rows = file.get_slice(name)
    return of_many(lambda: rows[2:5], 500)


def loadstone_part(path, n):
    import loadstone

    weight = next(iter(loadstone.open(path).values()))
    begin = weight.shape[1] // 4
    return of_one(lambda: weight[:, begin : begin + n] if n else weight.read())


def safetensors_part(path, n):
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        weight = file.get_slice(next(iter(file.keys())))
        begin = weight.get_shape()[1] // 4
        return of_one(lambda: (weight[:, begin : begin + n] if n else weight[:]).clone())


def rows_part(path, n, is_announced=False):
    """A read for each row of the slice: as anybody would, or nothing between them, the next 256 announced."""
    import os

    with Path(path).open("rb") as file:
        fd, nbytes = file.fileno(), os.fstat(file.fileno()).st_size
        if is_announced:  # before the header: what the kernel has begun to read ahead, it goes on with
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        data_offset = 8 + int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(data_offset - 8))
        n_rows, n_columns = header["weight"]["shape"]
        row_nbytes = (nbytes - data_offset) // n_rows
        first = data_offset + row_nbytes // n_columns * (n_columns // 4)
        size = row_nbytes // n_columns * n
        offsets = [first + row * row_nbytes for row in range(n_rows)]

        def announce(offsets):
            for offset in offsets:
                os.posix_fadvise(fd, offset, size, os.POSIX_FADV_WILLNEED)

        def read():
            rows = []
            for i, offset in enumerate(offsets):
                if is_announced and i % N_ANNOUNCED == 0:
                    announce(offsets[i : i + N_ANNOUNCED])
                rows.append(os.pread(fd, size, offset))
            return memoryview(b"".join(rows))

        return of_one(read)


def arrays(src, dst, n):
    import ml_dtypes
    import numpy as np

    names = {"bf16": ml_dtypes.bfloat16, "f32": np.float32}
    values = np.random.default_rng(0).standard_normal(1 << 16, np.float32).astype(names[src])
    return np.tile(values, n >> 16), np.ones(n, names[dst])


def convert(who, src, dst, n):
    import numpy as np

    values, out = arrays(src, dst, n)
    if who == "ml_dtypes":  # what astype does, without taking new memory for it
        call = partial(np.copyto, out, values, casting="unsafe")
    else:
        import loadstone

        call = partial(loadstone.convert_dtype, values, out.dtype, out=out)
    result = of_many(call, max(1, (8 << 20) // n))
    if not np.array_equal(out, values.astype(out.dtype)):
        sys.exit("the values are not those of ml_dtypes")
    return result | {"out_nbytes": out.nbytes, "in_nbytes": values.nbytes}


PARTS = {
    "loadstone": loadstone_part,
    "safetensors": safetensors_part,
    "pread": rows_part,
    "pread-announced": partial(rows_part, is_announced=True),
}


def main():
    who, what, *arguments = sys.argv[1:]
    if what == "convert":
        result = convert(who, *arguments[:2], int(arguments[2]))
    elif what in ("columns", "whole"):
        result = PARTS[who](arguments[0], int(arguments[1]) if what == "columns" else 0)
    else:
        call = loadstone_call if who == "loadstone" else safetensors_call
        result = call(what, arguments[0])
    print(json.dumps(result))


if __name__ == "__main__":
    main()
