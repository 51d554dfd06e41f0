"""Engines and frameworks: where stopper meets the model."""
