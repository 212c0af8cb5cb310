"""`python -m benchmarks.external [-o STORE]`: train five VAEs, score them all, print the table.

It can be stopped and started again: what is trained and scored is not done twice.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

import vaebench
from benchmarks.external.table import table
from benchmarks.external.trainers import IMAGES, TRAINERS, Training, model_of

SETTINGS: dict[str, object] = {
    "binarization": "static",
    "train_size": IMAGES,
    "iw_samples": 1_000,
    "iw_images": 500,
    "tsne_points": 0,
}


def scored(name: str, work: Training, store: Path) -> dict[str, object]:
    """Train and score one model, unless that is done; return what was printed and its record."""
    done = work.folder / "scored.json"
    if not done.exists():
        if not (work.folder / "printed.json").exists():
            work.folder.mkdir(parents=True, exist_ok=True)
            print(f"training {name}, seed {work.seed}", flush=True)
            TRAINERS[name](work).save(work.folder)
        print(f"scoring {name}, seed {work.seed}", flush=True)
        found = vaebench.evaluate(
            model_of(name, work.folder),
            "mnist",
            store,
            name=name,
            likelihood="bernoulli" if name == "pytorch_example" else None,
            settings=SETTINGS | {"seed": work.seed},
        )
        printed = json.loads((work.folder / "printed.json").read_text(encoding="utf-8"))
        about = {"name": name, "seed": work.seed, "cell": found.record.cell_id, **printed}
        done.write_text(json.dumps(about | {"own_loss": found.own_loss}), encoding="utf-8")
    about = json.loads(done.read_text(encoding="utf-8"))
    if not (store / "cells" / about["cell"] / "record.json").exists():
        done.unlink()
        return scored(name, work, store)
    return about


def main() -> None:
    """Parse the words of the command line and make the store."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.external", description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("results/external"))
    parser.add_argument("--models", type=Path, default=Path("results/external-models"))
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = [
        scored(
            name,
            Training(seed, given.epochs, given.models / f"{name}-{given.epochs}-{seed}"),
            given.output,
        )
        for name in TRAINERS
        for seed in range(given.seeds)
    ]
    text = json.dumps(rows, indent=1)
    (given.output / "printed.json").write_text(f"{text}\n", encoding="utf-8")
    print(table(given.output))


if __name__ == "__main__":
    main()
