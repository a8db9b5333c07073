"""Permutation symmetries read off a program."""

from dwalign.symmetry.inference.infer import InferenceError, Program, infer_spec, read_program

__all__ = ["InferenceError", "Program", "infer_spec", "read_program"]
