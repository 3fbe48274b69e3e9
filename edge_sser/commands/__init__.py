"""The commands besides `listen`."""
