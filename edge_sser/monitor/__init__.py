"""Monitor of one source: pipeline and model put together, and the judgement of what they say."""
