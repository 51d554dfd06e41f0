"""What the sidecar remembers: in this process, or in Redis when there are several replicas."""

from stopper.service.store.base import Advanced, Step, Store, StoreUnavailable
from stopper.service.store.memory import MemoryStore

__all__ = ["Advanced", "MemoryStore", "Step", "Store", "StoreUnavailable"]
