"""Figures as pure functions: a frame goes in, a matplotlib `Figure` comes out."""
