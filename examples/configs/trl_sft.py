"""Fine-tune a chat model on the train set of a run, with TRL. Runs on a CPU as it stands, on a GPU, or on several.

    python examples/configs/trl_sft.py RUN/train.jsonl --model HuggingFaceTB/SmolLM2-135M-Instruct -o my-model

Needs ``pip install "lm-mixup[train]"``; on a machine without a GPU, install the CPU build of torch first.
All weights are trained, in float32 with bfloat16 arithmetic where the GPU has it: meant for models of up to about
2 billion parameters. For larger ones pass a ``peft_config`` to the trainer.
"""

import argparse
from pathlib import Path

import torch
from datasets import Dataset, load_dataset
from trl import SFTConfig, SFTTrainer


def conversations(path: Path, *, all_turns: bool) -> Dataset:
    """The train set in one of the two conversational shapes that TRL knows.

    ``messages`` as they are with ``all_turns``; otherwise each row as ``prompt`` (all but the last message) and
    ``completion`` (the answer), on which alone TRL then computes the loss, whatever the model's chat template.
    """
    rows = load_dataset("json", data_files=str(path), split="train").select_columns(["messages"])
    if all_turns:
        return rows
    return rows.map(
        lambda row: {"prompt": row["messages"][:-1], "completion": row["messages"][-1:]},
        remove_columns=["messages"],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path, help="RUN/train.jsonl")
    parser.add_argument("--model", required=True, help="folder or hub id of a model that has a chat template")
    parser.add_argument("-o", "--output", required=True, help="folder for the checkpoints and the model")
    parser.add_argument("--max-steps", type=int, default=-1, help="stop after so many steps (default: after --epochs)")
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--learning-rate", type=float, default=2e-5)
    parser.add_argument("--batch-size", type=int, default=4, help="conversations per device and step")
    parser.add_argument("--max-length", type=int, default=1024, help="tokens; a longer conversation is cut")
    parser.add_argument(
        "--all-turns",
        action="store_true",
        help="learn from every answer of a conversation, not only the last; needs a chat template that TRL can mask",
    )
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args()

    gpu = torch.cuda.is_available()
    trainer = SFTTrainer(
        model=args.model,
        train_dataset=conversations(args.train, all_turns=args.all_turns),
        args=SFTConfig(
            output_dir=args.output,
            max_steps=args.max_steps,
            num_train_epochs=args.epochs,
            learning_rate=args.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=0.05,  # below 1: a share of all steps
            per_device_train_batch_size=args.batch_size,
            max_length=args.max_length,
            assistant_only_loss=args.all_turns,
            model_init_kwargs={"dtype": "float32"},
            use_cpu=not torch.accelerator.is_available(),
            bf16=gpu and torch.cuda.is_bf16_supported(),
            dataloader_pin_memory=gpu,
            save_strategy="epoch",
            logging_steps=1,
            seed=args.seed,
            report_to="none",
        ),
    )
    result = trainer.train()
    trainer.save_model(args.output)
    print(f"{result.global_step} steps, mean loss {result.training_loss:.4f}: {args.output}")


if __name__ == "__main__":
    main()
