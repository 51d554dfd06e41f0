"""Scores become thresholds with a promise."""
