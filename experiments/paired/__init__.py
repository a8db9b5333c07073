"""Pairs of networks for kinds.py, how they are judged, and what scales are worth to them."""
