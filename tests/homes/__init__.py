"""Homes made by earlier versions, and the means to pack and unpack them. See README.md beside this file."""
