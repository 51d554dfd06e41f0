"""The vLLM plugin: hidden state at a cue in, forced end of thinking out."""
