"""The process of one engine in Python: answers on standard output as `src/engine.rs` does, where the requests are described.

    rival.py ENGINE WORK MODEL THREADS
"""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np

# What a library prints must not stand between the answers.
answers, sys.stdout = sys.stdout, sys.stderr
os.environ["TQDM_DISABLE"] = "1"


def padded(batch):
    """The ids and the attention mask of a batch, padded to its longest text."""
    ids = np.zeros((len(batch), max(map(len, batch))), dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, text in enumerate(batch):
        ids[row, : len(text)] = text
        mask[row, : len(text)] = 1
    return ids, mask


class OnnxRuntime:
    def __init__(self, work, model, threads):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # It warns of every constant that it folds.
        options.log_severity_level = 3
        path = str(work / "model-masked.onnx")
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.name = f"onnxruntime {onnxruntime.__version__}"

    def embed(self, batch):
        ids, mask = padded(batch)
        return self.session.run(None, {"ids": ids, "mask": mask})[0]


class SentenceTransformers:
    def __init__(self, work, model, threads):
        import sentence_transformers
        import torch

        torch.set_num_threads(threads)
        self.torch = torch
        self.model = sentence_transformers.SentenceTransformer(str(model), device="cpu").eval()
        self.name = f"sentence-transformers {sentence_transformers.__version__} (torch {torch.__version__})"

    def embed(self, batch):
        # What `encode` does once it has the ids.
        ids, mask = map(self.torch.from_numpy, padded(batch))
        with self.torch.inference_mode():
            return self.model({"input_ids": ids, "attention_mask": mask})["sentence_embedding"].numpy()


ENGINES = {"onnxruntime": OnnxRuntime, "sentence-transformers": SentenceTransformers}


def main(engine, work, model, threads):
    engine = ENGINES[engine](Path(work), Path(model), int(threads))
    workloads = {workload["name"]: workload for workload in json.loads((Path(work) / "workloads.json").read_text())}
    print("ready", engine.name, file=answers, flush=True)
    for line in sys.stdin:
        request, name, *round_index = line.split()
        batches, size = workloads[name]["batches"], workloads[name]["batches_round"]
        if request == "check":
            print(json.dumps(engine.embed(batches[0]).tolist()), file=answers, flush=True)
            continue
        start = int(round_index[0]) % -(-len(batches) // size) * size
        wall, cpu = time.perf_counter_ns(), time.process_time_ns()
        for batch in batches[start : start + size]:
            engine.embed(batch)
        print(time.perf_counter_ns() - wall, time.process_time_ns() - cpu, file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
