"""Setting up and starting, before anything is installed: standard library only. Called by launch.py."""
