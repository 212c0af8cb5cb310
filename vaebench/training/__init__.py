"""One loop, one step, for a pack of cells; writes nothing.

``step.py`` is the loss and one update, ``loop.py`` goes over the data and keeps the books.
"""
