"""What pages show, as HTML text made from plain values. Pure: no Gradio, no files; tested without a browser."""
