"""Model cards, the shipped models, and the engine that runs them."""
