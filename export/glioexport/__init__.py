"""Training and conversion of U-net+DropBlock."""

import gliorun  # noqa: F401  shuts telemetry off before OpenVINO or NNCF is imported
