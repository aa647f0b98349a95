"""The folder of the Spark tests: their rows as files, and what Spark makes of them. ``python -m tests.e2e.spark.make FOLDER PYTHON``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pyarrow import parquet

from tests.e2e.spark import rows

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[3]
TIMEOUT_S = 400
OPTIONS = (
    "--master local[2]",
    "--conf spark.ui.enabled=false",
    "--conf spark.sql.shuffle.partitions=2",
    "--conf spark.driver.memory=1g",
)


def run_spark(python, script, *arguments, options=(), end=0):
    """Run a script of this folder in Spark's own Python; `end` is what it exits with."""
    env = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "SPARK_LOCAL_IP": "127.0.0.1"}
    env["PYSPARK_SUBMIT_ARGS"] = " ".join([*OPTIONS, *options, "pyspark-shell"])
    command = [python, str(HERE / script), *map(str, arguments)]
    work = subprocess.run(command, env=env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if work.returncode != end:
        raise RuntimeError(work.stderr[-4000:])


def write_rows(folder):
    """What Spark reads: a history, events that are asked for, and files that come one after another."""
    tables = rows.tables()
    for name in ("logins", "chargebacks"):
        parquet.write_table(tables[name], folder / f"{name}.parquet")
    (folder / "payments").mkdir()
    for i, part in enumerate(rows.cut(tables["payments"])):
        parquet.write_table(part, folder / "payments" / f"{i}.parquet", row_group_size=20)
    parquet.write_table(rows.asked(), folder / "asked.parquet")
    parquet.write_table(rows.conflict(), folder / "conflict.parquet")
    (folder / "later").mkdir()
    for name, parts in rows.streamed().items():
        (folder / "stream" / name).mkdir(parents=True)
        for i, part in enumerate(parts[:-1]):
            file = folder / "stream" / name / f"{i}.parquet"
            parquet.write_table(part, file)
            os.utime(file, (1_700_000_000 + i, 1_700_000_000 + i))
        parquet.write_table(parts[-1], folder / "later" / f"{name}.parquet")


if __name__ == "__main__":
    place = Path(sys.argv[1])
    place.mkdir()
    write_rows(place)
    run_spark(sys.argv[2], "work.py", place)
