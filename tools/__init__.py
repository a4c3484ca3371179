"""What builds parts of the project; nothing here is needed to use it."""
