"""The only joiner: cells become records.

``plan.py`` decides what is to be done, ``execute.py`` does one pack of cells, ``worker.py`` does so
in a separate process, ``pool.py`` keeps the processes, ``run.py`` writes the records.
``stopwatch.py`` times one training step in a fresh process, ``timing.py`` asks for it and writes
the record.
"""
