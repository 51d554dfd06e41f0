"""Published rules for ending the thinking, run online through vLLM beside ours."""
