"""LoRA Atelier's engine and everything that needs no page. Never imports gradio, never imports app."""

import os

os.environ.setdefault("MKL_CBWR", "AUTO")
"""Same seed, same bytes: Intel's MKL, by which torch multiplies on a CPU, otherwise lets its threads decide in which order
parts of a sum are added (Conditional Numerical Reproducibility in its developer guide). Read at its first product."""
