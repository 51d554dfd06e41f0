"""The tiny reasoner: a small model that overthinks honestly, and the recipe that made it."""
