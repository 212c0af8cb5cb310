"""Where worker processes are started: on this machine or on a Ray cluster."""

from vaebench.errors import UsageError
from vaebench.runner.engines.base import ENGINES, Engine, EngineName

__all__ = ["engine_of"]


def engine_of(name: EngineName) -> Engine:
    """The engine of this name; it connects to nothing before it is asked for something.

    Raises:
        UsageError: there is none.
    """
    # Each imports what the other does not need.
    if name == "local":
        from vaebench.runner.engines.local import LocalEngine

        return LocalEngine()
    if name == "ray":
        from vaebench.runner.engines.ray_cluster import RayEngine

        return RayEngine()
    raise UsageError(f"engine must be one of {', '.join(ENGINES)}; got {name!r}")
