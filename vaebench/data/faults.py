"""The two ways in which data can fail a run."""

__all__ = ["DataInvalid", "DataMissing"]


class DataMissing(Exception):
    """The data are in none of the places where they were looked for."""


class DataInvalid(Exception):
    """The data are there, but are not what they should be: the text says what and where."""
