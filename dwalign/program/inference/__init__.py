"""Permutation symmetries read off a program."""

from dwalign.program.inference.infer import InferenceError, Program, infer_spec, read_program

__all__ = ["InferenceError", "Program", "infer_spec", "read_program"]
