"""Units and first settings of the service, as `edge-sser service install` writes them."""
