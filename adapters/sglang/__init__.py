"""LLaDA2 and SDAR under SGLang: halts the denoising of a block when its tokens have settled."""
