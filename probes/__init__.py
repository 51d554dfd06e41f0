"""A signal becomes a score. The ground floor: imports nothing else of ours."""
