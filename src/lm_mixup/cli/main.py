"""``lm-mixup``: the command and its exit codes.

===== ==========================================================================
0     done
1     a bug in lm-mixup
2     something given is wrong: a pool, a recipe, a flag; a package or a model is missing
3     done, but the train set is empty: nothing in the pool was good enough
4     an LLM endpoint refuses every request
5     the disk is full; the same command goes on
6     a cap on what language models may cost is reached; the same command with a higher one goes on
130   interrupted; the same command goes on
===== ==========================================================================
"""

from __future__ import annotations

import sys

import typer

from lm_mixup import __version__
from lm_mixup.cli import (
    evaluate_commands,
    file_commands,
    llm_commands,
    mixture_commands,
    rater_commands,
    run_commands,
    setup_commands,
    train_commands,
)
from lm_mixup.errors import LMMixupError

INTERRUPTED = 130

app = typer.Typer(
    name="lm-mixup",
    help="Instruction distillation: a large pool of mixed quality in, a small, dense, verifiable train set out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"lm-mixup {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    pass


run_commands.register(app)
file_commands.register(app)
llm_commands.register(app)
setup_commands.register(app)
rater_commands.register(app)
mixture_commands.register(app)
train_commands.register(app)
evaluate_commands.register(app)


def main() -> None:
    """Run the command line; every error that lm-mixup raises on purpose becomes one message and an exit code."""
    try:
        app()
    except LMMixupError as error:
        print(f"lm-mixup: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except SystemExit as leaving:
        if leaving.code == INTERRUPTED:  # typer turns Ctrl-C into this, without a word
            print("lm-mixup: interrupted; what was finished is kept, and the same command goes on", file=sys.stderr)
        raise
    except BrokenPipeError:
        # the reader of our output (head, less) has gone: no error
        sys.stderr.close()
        raise SystemExit(0) from None


if __name__ == "__main__":
    main()
