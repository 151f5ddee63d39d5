"""What a detector reached, beside the paper's figures."""
