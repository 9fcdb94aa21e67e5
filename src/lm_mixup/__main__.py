"""``python -m lm_mixup``: the command, for launchers that want a module."""

from lm_mixup.cli.main import main

main()
