"""Calls: frames leave as they come, and any packet may be lost."""
