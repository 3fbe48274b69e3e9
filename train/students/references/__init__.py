"""Networks of the reference systems: plain modules from a front end's tensor to the logits of the emotions."""
