"""Students: networks small enough for a device."""
