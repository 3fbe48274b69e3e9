"""Units and first settings of the service, for `edge-sser service install`."""
