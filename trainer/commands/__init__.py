"""The commands for people that have no module of their own: train, sample, demo."""
