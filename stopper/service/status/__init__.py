"""`GET /v1/status`: how the sidecar fares, in one record."""
