"""A worker keeps to its threads: two busy libraries on one core hinder each other."""

import json
import os
import subprocess
import sys

_SCRIPT = """
import json
from multiprocessing import Pipe
from threadpoolctl import threadpool_info
from vaebench.runner.worker import serve
import sklearn.manifold

before = [pool["num_threads"] for pool in threadpool_info()]
ours, theirs = Pipe()
ours.close()
serve(theirs)
print(json.dumps([before, [pool["num_threads"] for pool in threadpool_info()]]))
"""


def test_every_thread_pool_of_a_worker_has_as_many_threads_as_the_worker() -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "3"}
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT], capture_output=True, text=True, env=environment, check=True
    )
    before, after = json.loads(done.stdout)
    assert max(before) > 1
    assert after
    assert set(after) == {1}
