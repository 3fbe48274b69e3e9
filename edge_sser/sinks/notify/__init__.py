"""Notifications: a command, a webhook or an Apprise service is told of episodes and health."""
