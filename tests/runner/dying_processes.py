"""What a process of the stopwatch may do in place of an answer."""

import os
import signal
from multiprocessing.connection import Connection


def is_killed(connection: Connection, threads: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leaves(connection: Connection, threads: int) -> None:
    os._exit(3)


def answers(connection: Connection, threads: int, word: str) -> None:
    connection.send((word, threads, os.getpid()))
