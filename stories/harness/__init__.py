"""What the stories stand on: real providers, the real gate, a real browser, and waiting without sleeping blindly."""
