"""Remote mode: cues are found in the engine, the decisions come from the sidecar."""
