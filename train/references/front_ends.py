"""Front ends of several reference systems, made of library calls, and altered copies of clips."""
