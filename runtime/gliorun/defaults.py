"""What holds where nothing else is said: for the classes and for the command line alike.

A module of its own, without imports, as `gliorun --help` must not wait for heavy libraries.
"""

MAX_BAD_TILES = 0.05
"""Share of unreadable tiles above which a slide fails."""
MEMORY_MB = 128.0
"""Upper bound on the buffers."""

DEVICE = "CPU"
CORES = "any"
PRECISION = "auto"
TIMEOUT_S = 120.0
"""Seconds after which a hanging inference is given up."""

DENSITY = "tissue"
"""What the nucleus area is divided by."""
HOT_SPOTS = 5
"""Number of the densest fields that are found."""
HOT_SPOT_MM2 = 1.0
"""Area of each of them."""
PALETTE = "cold-hot"
CHECKPOINT_S = 10.0
"""Seconds between two checkpoints of an unfinished run."""
VIEW_ADDRESS = "127.0.0.1"
"""Where the page of a slide is served: to this computer alone."""
