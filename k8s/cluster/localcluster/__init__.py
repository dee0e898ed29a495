"""A real Kubernetes on one Linux machine without Docker and without an image registry.

`control_plane` is for tests that need only the API (and, on request, fake nodes); `python -m localcluster up` is a
whole single-node cluster with containers. See docs/local-cluster.md.
"""

from localcluster.control_plane import ControlPlane, control_plane

__all__ = ["ControlPlane", "control_plane"]
