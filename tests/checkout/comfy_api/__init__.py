"""The node API: the wheel's own, found here as a checkout's would be."""

import os

import rushlight

__path__ = [os.path.join(os.path.dirname(rushlight.__file__), "modules", "comfy_api")]
