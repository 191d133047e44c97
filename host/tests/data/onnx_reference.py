"""Makes onnx-reference.json: what onnxruntime computes, for the tests of ONNX models.

    pip install onnxruntime numpy
    python onnx_reference.py MODELS_DIR > onnx-reference.json     (MODELS_DIR/silero-vad and MODELS_DIR/magika, as pulled)
"""

import json
import math
import pathlib
import struct
import sys
import zlib

import numpy as np
import onnxruntime

RATE, CHUNK, CONTEXT, CHUNKS = 16_000, 512, 64, 40


def speech():
    """A second and a quarter of a voice that says vowels; `onnx.rs` makes the same samples."""
    samples, phase = [], 0.0
    for index in range(CHUNK * CHUNKS):
        t = index / RATE
        pitch = 120.0 + 15.0 * math.sin(2.0 * math.pi * 3.0 * t)
        phase += pitch / RATE
        first = 500.0 + 250.0 * math.sin(2.0 * math.pi * 2.5 * t)
        second = 1500.0 + 500.0 * math.sin(2.0 * math.pi * 1.7 * t)
        loudness = max(math.sin(2.0 * math.pi * 2.0 * t), 0.0)
        value = 0.0
        for harmonic in range(1, 31):
            frequency = harmonic * pitch
            near = math.exp(-(((frequency - first) / 150.0) ** 2)) + 0.5 * math.exp(-(((frequency - second) / 200.0) ** 2))
            value += (near + 0.02) * math.sin(2.0 * math.pi * harmonic * phase)
        samples.append(round(6_000.0 * loudness * value) / 32_768.0)
    return np.array(samples, dtype=np.float32)


def png():
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    rows = b"".join(b"\0" + bytes((x * 5 + y * 3) % 256 for x in range(24)) for y in range(8))
    header = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def magika_features(content):
    """The first and the last 1,024 bytes without white space around them, padded with 256."""
    content = content.strip()
    first, last = list(content[:1024]), list(content[-1024:])
    return first + [256] * (1024 - len(first)) + [256] * (1024 - len(last)) + last


def main():
    models = pathlib.Path(sys.argv[1])
    session = onnxruntime.InferenceSession(str(models / "silero-vad/model.onnx"), providers=["CPUExecutionProvider"])
    names = {value.name for value in session.get_inputs()}
    state, context = np.zeros((2, 1, 128), np.float32), np.zeros((1, CONTEXT), np.float32)
    probabilities = []
    for chunk in speech().reshape(CHUNKS, 1, CHUNK):
        window = np.concatenate([context, chunk], axis=1)
        feeds = {"input": window, "state": state}
        if "sr" in names:
            feeds["sr"] = np.array(RATE, np.int64)
        output, state = session.run(["output", "stateN"], feeds)
        context = window[:, -CONTEXT:]
        probabilities.append(float(output[0, 0]))

    session = onnxruntime.InferenceSession(str(models / "magika/model.onnx"), providers=["CPUExecutionProvider"])
    here = pathlib.Path(__file__)
    files = {
        "python": (here.parents[3] / "benches/compare/embed/graph.py").read_bytes()[:3000],
        "markdown": (here.parents[3] / "ARCHITECTURE.md").read_bytes()[:3000],
        "png": png(),
    }
    classified = []
    for label, content in files.items():
        scores = session.run(["target_label"], {"bytes": np.array([magika_features(content)], np.int32)})[0][0]
        classified.append({"label": label, "index": int(scores.argmax()), "content": list(content), "scores": [float(f"{value:.7g}") for value in scores]})
    print(json.dumps({
        "onnxruntime": onnxruntime.__version__,
        "silero": {"probabilities": [float(f"{value:.7g}") for value in probabilities],
                   "state": [float(f"{value:.7g}") for value in state.reshape(-1)]},
        "magika": classified,
    }))


main()
