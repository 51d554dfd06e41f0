"""The tiny diffusion LM: a small masked diffusion model, and the recipe that made it."""
