"""`python -m benchmarks.peers [ROUNDS] [--images mnist|digits]`: the comparison as a table."""

import argparse

from benchmarks.peers.comparison import compare, one_core, table
from benchmarks.peers.workload import images_here
from vaebench.runner.machine import environment

parser = argparse.ArgumentParser(prog="python -m benchmarks.peers")
parser.add_argument("rounds", nargs="?", type=int, default=15)
parser.add_argument("--images", choices=["mnist", "digits"], default=images_here())
arguments = parser.parse_args()

with one_core():
    here = environment("cpu")
    print(
        f"{here.processor}, one core, torch {here.versions['torch']}, {arguments.images}; "
        "medians over rounds, ratios within a round\n"
    )
    print(table(compare(arguments.rounds, images=arguments.images)))
