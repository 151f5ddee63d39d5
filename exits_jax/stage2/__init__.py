"""Stage 2: stock mmdet models trained on the pseudo masks (Section 3.3).

Runs in an environment of its own (`make stage2-env`) and talks to stage 1 by files.
"""
