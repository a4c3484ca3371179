"""LoRA Atelier's engine and everything that needs no page. Never imports gradio, never imports app."""
