"""transformers' Trainer in the place of our training loop: its data loader, its steps, its hooks, and accelerate's under them.

What is learned, and by which recipe, is ours: the loss of the task, AdamW with decay on every weight, the rates, the order of the
images and what moves them. On equal weights the two loops give equal ones.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers.data.data_collator import default_data_collator
from transformers.trainer import Trainer
from transformers.trainer_callback import PrinterCallback, TrainerCallback
from transformers.training_args import TrainingArguments

from aieng_suites.vision._training import Fit, Training


class Labelled(Dataset[dict[str, Tensor]]):
    """Images and labels by number, as the Trainer takes them."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images.cpu(), labels.cpu()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        return {"images": self.images[number], "labels": self.labels[number]}


class Order(Sampler[int]):
    """The numbers of an epoch's images, in the order of our own loop."""

    def __init__(self, training: Training) -> None:
        self.training = training

    def __len__(self) -> int:
        return len(self.training.labels)

    def __iter__(self) -> Iterator[int]:
        return iter(torch.cat(self.training.batches()).tolist())


class Epochs(TrainerCallback):  # type: ignore[misc]
    """What our loop notes of an epoch."""

    def __init__(self, training: Training) -> None:
        self.training = training

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        self.training.begin_epoch()

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        self.training.end_epoch()


class Loop(Trainer):  # type: ignore[misc]
    """A Trainer whose loss is the task's."""

    loss_is_scaled_for_ga = False

    def __init__(self, training: Training, folder: str, steps: int) -> None:
        self.training, recipe = training, training.recipe
        rates = torch.optim.lr_scheduler.LambdaLR(
            training.optimizer, lambda step: recipe.rate(step, training.steps) / recipe.learning_rate
        )
        arguments = TrainingArguments(
            folder,
            max_steps=steps,
            per_device_train_batch_size=recipe.batch,
            max_grad_norm=0.0,
            use_cpu=training.device == "cpu",
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        super().__init__(
            training.model,
            arguments,
            train_dataset=Labelled(training.images, training.labels),
            optimizers=(training.optimizer, rates),
            callbacks=[Epochs(training)],
        )
        self.remove_callback(PrinterCallback)

    def get_train_dataloader(self) -> Any:
        """The library's own, but for the order."""
        size = self.training.recipe.batch
        loader = DataLoader(self.train_dataset, size, sampler=Order(self.training), collate_fn=default_data_collator)
        return self.accelerator.prepare(loader)

    def compute_loss(self, model: Any, inputs: dict[str, Tensor], *_: Any, **__: Any) -> Tensor:
        loss = self.training.task.loss(model, inputs["images"], inputs["labels"], self.training.generator)
        self.training.losses.append(loss.detach())
        return loss


class TrainerTraining(Training):
    """Our training by the library's loop."""

    def first(self, steps: int) -> None:
        # The state of torch's own random numbers, which the Trainer seeds, is kept, as our loop keeps it.
        with torch.random.fork_rng(), tempfile.TemporaryDirectory() as folder:
            Loop(self, folder, steps).train()

    def run(self) -> Fit:
        """All epochs."""
        self.first(self.steps)
        return self.fit()
