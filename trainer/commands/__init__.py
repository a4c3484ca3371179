"""The commands a person types after `launch.py`, one module each; `trainer/__main__.py` calls them."""
