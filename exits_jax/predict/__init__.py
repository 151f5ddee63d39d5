"""Masks for new clicks: `Predictor`, and the command `exits-jax predict`."""
