"""The OpenAI-compatible front: requests go to vLLM servers, responses come back with a report."""
