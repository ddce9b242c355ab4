"""The tested companion package of the course: one concept a module, imported where it is used."""

__version__ = "0.1.0"
