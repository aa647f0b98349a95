"""A generated file of the shape of Kaggle's creditcard.csv, for tests: no row of it is real."""

import numpy as np

from examples.fraud.creditcard import CSV_COLUMNS


def write_creditcard(path, rows=3_000, *, frauds=60, seed=0):
    """Write `rows` payments over two days, in time order and in Kaggle's spelling, `frauds` of them fraudulent.

    As in the real file, some components differ for frauds (so that a model can learn), seconds repeat, and the class
    stands in quotes.
    """
    rng = np.random.default_rng(seed)
    time = np.sort(rng.integers(0, 172_793, rows))
    fraud = np.zeros(rows, bool)
    fraud[rng.choice(rows, frauds, replace=False)] = True
    components = rng.normal(size=(rows, 28)) * np.linspace(2, 0.3, 28)
    components[fraud, :4] += (-4, 3, -6, 4)
    amount = rng.lognormal(3, 1.4, rows).round(2)
    with path.open("w") as file:
        file.write(",".join(f'"{name}"' for name in CSV_COLUMNS) + "\n")
        for t, values, paid, label in zip(time, components, amount, fraud, strict=True):
            file.write(f'{t},{",".join(map(repr, values.tolist()))},{paid:g},"{int(label)}"\n')
    return path
