"""The questions of questions.py, and what they share."""
