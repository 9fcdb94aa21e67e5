"""lm-mixup: instruction distillation. A pool of mixed quality in, a small, dense, verifiable train set out."""

__version__ = "0.1.0"
