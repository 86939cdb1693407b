"""From a slide to its density map."""
