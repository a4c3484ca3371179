"""Losses and rates for TensorBoard and Weights & Biases, from the run's own events. Set up by the recipe where asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainer.config.load import dump
from trainer.config.train import TrainConfig
from trainer.core import events
from trainer.core.run_dir import RunDir

Tell = Callable[[events.Event], None]


def scalars(event: events.Event) -> dict[str, float]:
    """The numbers of an event by the names both boards show them under."""
    if isinstance(event, events.Step):
        told = {f"rate/{part}": rate for part, rate in event.rates.items()} | {"speed/seconds": event.seconds}
        return told if event.loss is None else {"loss/train": event.loss} | told
    if isinstance(event, events.Validated):
        return {"loss/held_out": event.loss, "loss/against_base": event.ratio}
    if isinstance(event, events.Scored):
        told = {"likeness/set": event.likeness, "likeness/nearest": max(one.closeness for one in event.pictures)}
        return told if event.prompt is None else told | {"likeness/prompt": event.prompt}
    return {}


def with_boards(tell: Tell, run: RunDir, config: TrainConfig) -> Tell:
    """`tell`, which now also feeds the boards asked for. One that is not there or breaks is told once and left out."""
    boards: list[Any] = []
    for asked, make in ((config.save.tensorboard, _tensorboard), (config.save.wandb, _wandb)):
        if not asked:
            continue
        try:
            boards.append(make(run, config))
        except (ImportError, OSError, RuntimeError) as error:
            tell(_lost(make.__name__, error))

    def told(event: events.Event) -> None:
        tell(event)
        numbers = scalars(event)
        for board in list(boards):
            try:
                if numbers:
                    board(numbers, getattr(event, "step", 0), isinstance(event, events.Validated | events.Scored))
                elif isinstance(event, events.Finished | events.Stopped | events.Failed):
                    board(None, 0, True)
            except (OSError, RuntimeError) as error:  # a full disk or a lost network must not end a training
                boards.remove(board)
                tell(_lost(board.__name__, error))

    return told if boards else tell


def _tensorboard(run: RunDir, config: TrainConfig) -> Callable[..., None]:
    from tensorboardX import SummaryWriter

    folder: Path = run.path / "tensorboard"
    writer = SummaryWriter(str(folder), flush_secs=10)

    def tensorboard(numbers: dict[str, float] | None, step: int, flush: bool) -> None:
        for name, value in (numbers or {}).items():
            writer.add_scalar(name, value, step)
        if numbers is None:
            writer.close()
        elif flush:
            writer.flush()

    return tensorboard


def _wandb(run: RunDir, config: TrainConfig) -> Callable[..., None]:
    """Online only where the person is logged in; the run is called as its LoRA, and goes on under the same id."""
    import wandb  # pyright: ignore[reportMissingImports]

    made = wandb.init(
        project=config.save.wandb,
        name=config.save.name or run.id,
        id=run.id,
        resume="allow",
        dir=str(run.path),
        config=dump(config),
    )

    def board(numbers: dict[str, float] | None, step: int, flush: bool) -> None:
        made.finish() if numbers is None else made.log(numbers, step=step)

    return board


def _lost(name: str, error: BaseException) -> events.Note:
    why = (str(error).splitlines() or [""])[0][:160]
    return events.Note(code="board_missing", params={"board": name.strip("_"), "why": f"{type(error).__name__}: {why}"})
