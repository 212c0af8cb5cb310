"""Runs: train and evaluate the cells of a grid and write their records.

A cell is one value of every axis, a pack is a number of cells that are trained as one program.
``plan.py`` decides which cells to train, ``execute.py`` trains and evaluates one pack,
``worker.py`` does this in a separate process, ``pool.py`` manages the processes, ``run.py`` writes
the records. ``stopwatch.py`` times one training step in a new process, ``timing.py`` starts this
process and writes the record.
"""
