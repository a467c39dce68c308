"""One measurement:

    measure.py shipped|pr1422|loadstone|build transformer|t5|pipeline DIRECTORY DTYPE COMMAND...

Runs the command right before the clock starts, when all is imported. Prints, as JSON in the last line, the
seconds that the load took and the most anonymous memory there was while it ran, beyond what the process had
before.
"""

import contextlib
import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import mindspore as ms

ms.set_device("CPU")
import loadstone.mindspore  # noqa: E402
from mindone.diffusers import CogVideoXPipeline, CogVideoXTransformer3DModel  # noqa: E402
from mindone.transformers import T5EncoderModel  # noqa: E402


def anonymous():
    return int(re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024


class Peak:
    """The most anonymous memory while it runs, looked at a hundred times a second."""

    def __enter__(self):
        self.before = self.most = anonymous()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self):
        while not self._end.wait(0.01):
            self.most = max(self.most, anonymous())

    def __exit__(self, *exception):
        self._end.set()
        self._thread.join()
        self.most = max(self.most, anonymous())


def load(kind, directory, dtype):
    if kind == "t5":
        return T5EncoderModel.from_pretrained(directory, dtype=dtype)
    if kind == "pipeline":
        return CogVideoXPipeline.from_pretrained(directory, mindspore_dtype=dtype, tokenizer=None)
    return CogVideoXTransformer3DModel.from_pretrained(directory, mindspore_dtype=dtype)


def build(kind, directory, dtype):
    """The network alone, without memory: what remains if loading takes no time."""
    with loadstone.mindspore.empty(dtype):
        if kind == "t5":
            return T5EncoderModel(T5EncoderModel.config_class.from_pretrained(directory))
        return CogVideoXTransformer3DModel.from_config(CogVideoXTransformer3DModel.load_config(directory))


def parameters(model):
    models = model.components.values() if isinstance(model, CogVideoXPipeline) else [model]
    return [p for m in models if isinstance(m, ms.nn.Cell) for p in m.get_parameters()]


def main():
    how, kind, directory, dtype, *command = sys.argv[1:]
    dtype = getattr(ms, dtype)
    scope = contextlib.nullcontext()
    if how == "pr1422":
        import pr1422

        scope = pr1422.strategy(dtype)
    elif how == "loadstone":
        scope = loadstone.mindspore.accelerated()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with Peak() as peak, scope:
        begin = time.perf_counter()
        model = (build if how == "build" else load)(kind, directory, dtype)
        seconds = time.perf_counter() - begin
    found = parameters(model)
    assert {p.dtype for p in found} <= {dtype, ms.float32}, "the load gave other dtypes"
    most = (peak.most - peak.before) / 1e9
    print(json.dumps({"seconds": seconds, "anonymous_gb": most, "parameters": len(found)}))


if __name__ == "__main__":
    main()
