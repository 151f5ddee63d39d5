"""A page in the browser where four clicks give a mask: `exits-jax annotate`."""
