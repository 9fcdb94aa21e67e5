"""Rewards of GRPO, usable alone: quality, alignment, format, coverage, grounding. METHOD § 3."""
