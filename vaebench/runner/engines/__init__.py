"""Where worker processes are started: on this machine or on a Ray cluster."""

from vaebench.errors import UsageError
from vaebench.runner.engines.base import ENGINES, Engine, EngineName

__all__ = ["engine_of"]


def engine_of(name: EngineName) -> Engine:
    """Return the engine of this name; it connects to a cluster only when needed.

    Raises:
        UsageError: the name is unknown.
    """
    # Imported here, so that only the packages of the chosen engine are needed.
    if name == "local":
        from vaebench.runner.engines.local import LocalEngine

        return LocalEngine()
    if name == "ray":
        from vaebench.runner.engines.ray_cluster import RayEngine

        return RayEngine()
    raise UsageError(f"engine must be one of {', '.join(ENGINES)}; got {name!r}")
