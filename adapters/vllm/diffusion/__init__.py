"""DiffusionGemma under vLLM: halts the denoising of a canvas when its tokens have settled."""
