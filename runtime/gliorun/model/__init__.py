"""What a model is, where the shipped ones lie, and the engine that runs them."""
