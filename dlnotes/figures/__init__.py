r"""The workshop behind :mod:`dlnotes.plot`: drawing, captions, interactive figures. Import from `plot` instead."""
