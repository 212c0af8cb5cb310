"""`python -m benchmarks.peers [ROUNDS]`: the comparison as a table."""

import sys

from benchmarks.peers.comparison import compare, one_core, table
from vaebench.runner.machine import environment

with one_core():
    here = environment("cpu")
    print(
        f"{here.processor}, one core, torch {here.versions['torch']}, batch 128; "
        "medians over rounds, ratios within a round\n"
    )
    print(table(compare(int(sys.argv[1]) if len(sys.argv) > 1 else 15)))
