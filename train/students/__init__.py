"""The networks small enough for a device."""
