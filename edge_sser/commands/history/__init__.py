"""`edge-sser history`: episodes, minutes and health of the past, as a person or a program wants them."""
