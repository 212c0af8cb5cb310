"""Processes, signals, files and terminal text of the operating system. No torch."""
