"""The command line: one module for each command; words in, calls out."""
