"""What one request asks of stopper; the engine and the scripted engine read it alike."""

from stopper.request_options import Mode, RequestOptions

__all__ = ["Mode", "RequestOptions"]
