"""The web page: Gradio on FastAPI. Never imports torch, diffusers, transformers or peft; the work is the trainer's."""
