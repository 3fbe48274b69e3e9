"""`edge-sser service`: installs, explains and removes the systemd unit."""
