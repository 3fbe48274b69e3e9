"""`edge-sser service`: installs, describes and removes the systemd unit."""
