"""Files: the encoder looks ahead, and nothing is lost on the way."""
