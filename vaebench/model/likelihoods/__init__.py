"""p(x|z): one class per likelihood family, each a normalised density or mass with all constants.

`family` finds a class by its name. To add a family, write one module with a subclass of
`Likelihood` (or `LocationScale`) and one entry in `vaebench.grid.axes.LIKELIHOODS`.
"""

from vaebench.model.likelihoods.base import LevelEdges, Likelihood, count_edges, family, level_edges
from vaebench.model.likelihoods.location_scale import SCALE_FLOOR, LocationScale

__all__ = [
    "SCALE_FLOOR",
    "LevelEdges",
    "Likelihood",
    "LocationScale",
    "count_edges",
    "family",
    "level_edges",
]
