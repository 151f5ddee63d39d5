"""The protocols by which other annotation tools ask for masks; off unless named."""
