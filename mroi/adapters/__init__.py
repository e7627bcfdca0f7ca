"""Adapters: other formats to and from volumes. Each module imports its library when it is used."""
