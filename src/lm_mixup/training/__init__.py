"""Training the model that distils: SFT, then GRPO. METHOD § 3. Torch and TRL are imported inside functions."""
