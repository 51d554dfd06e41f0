"""The sidecar: stop decisions over HTTP, an OpenAI-compatible front, audits and the alarm."""
