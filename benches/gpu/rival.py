#!/usr/bin/env python3
"""Times sentence-transformers in half precision on a CUDA device, over the same texts and batches as `bireme-gpu`.

    rival.py MODEL TEXTS [DEVICE]

Each batch is what its users write: `encode` with a batch size, on tokens that were made before where lengths are equal, and
on texts, tokenising included, where they are mixed (the line says so). Prints `FIGURE name value` under the names that
`bireme-gpu` gives its own.
"""

import pathlib
import statistics
import sys
import time

import sentence_transformers
import torch


def median_rate(work, count, seconds=1.0):
    """Calls a second times `count`, by the median of rounds."""
    for _ in range(3):
        work()
    torch.cuda.synchronize()
    rounds, end = [], time.perf_counter() + seconds
    while len(rounds) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        rounds.append(time.perf_counter() - start)
    return count / statistics.median(rounds)


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    device = sys.argv[3] if len(sys.argv) == 4 else "cuda:0"
    torch.cuda.set_device(device)
    name = pathlib.Path(sys.argv[1]).name
    texts = [line for line in open(sys.argv[2], encoding="utf-8").read().splitlines() if line.strip()]
    model = sentence_transformers.SentenceTransformer(sys.argv[1], device=device).half().eval()
    print(f"torch {torch.__version__}, sentence-transformers {sentence_transformers.__version__}, "
          f"{torch.cuda.get_device_name(device)}")
    with torch.inference_mode():
        for length in (16, 128, 512):
            if length > model.get_max_seq_length():
                model.max_seq_length = length
            for count in (1, 8, 32, 128, 512):
                ids = torch.randint(1000, 29000, (count, length), device=device)
                ids[:, 0], ids[:, -1] = 101, 102
                features = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
                rate = median_rate(lambda: model.forward(dict(features))["sentence_embedding"].cpu(), count)
                print(f"FIGURE {name}_{count}x{length}_per_s {rate:.0f}")
        # `forward` alone, over batches that were tokenised, sorted by length and padded before: the best case of padding.
        model.max_seq_length = 256
        ordered = sorted(texts, key=len, reverse=True)
        batches = [
            {key: value.to(device) for key, value in model.tokenize(ordered[first : first + 128]).items()
             if torch.is_tensor(value)}
            for first in range(0, len(ordered), 128)
        ]
        rate = median_rate(lambda: [model.forward(dict(batch))["sentence_embedding"].cpu() for batch in batches], len(texts))
        print(f"FIGURE {name}_mixed_per_s {rate:.0f}")
        rate = median_rate(lambda: model.encode(texts, batch_size=128, show_progress_bar=False), len(texts), seconds=3.0)
        print(f"FIGURE {name}_mixed_with_tokens_per_s {rate:.0f}")


if __name__ == "__main__":
    main()
