"""Speed and memory as ratios measured in one run: ours, a plain reference loop, and what the machine could do."""
