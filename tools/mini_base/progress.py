"""What every training stage shares: a time budget over several sittings, averaged weights, checkpoints, curves, grids.

`vae.py`, `ldm.py` and `judge.py` run inside a `Loop`. A stage that was stopped goes on from its last checkpoint.
"""

from __future__ import annotations

import csv
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw

RUNNING = ("running_mean", "running_var")  # what batch norms call it
_WARM = 100  # steps over which the rate rises


class Loop:
    """One stage: its modules, optimiser, averaged weights (EMA) and how much of its time is spent.

    The learning rate follows the share of `minutes` spent, over all sittings together; `sitting` ends one early. What
    was spent up to minute `since` belongs to an earlier training: rate and share begin anew there.
    """

    def __init__(
        self,
        name: str,
        work: Path,
        modules: dict[str, torch.nn.Module],
        *,
        minutes: float,
        since: float = 0.0,
        sitting: float | None = None,
        rate: float = 1e-3,
        averaging: float = 0.999,
        every: float = 60.0,
    ) -> None:
        self.name, self.work, self.modules = name, work, modules
        self.minutes, self.since, self.sitting, self.rate = minutes, since, sitting, rate
        self.averaging, self.every = averaging, every
        self.weights = [p for m in modules.values() for p in m.parameters()]
        matrices = [p for p in self.weights if p.ndim > 1]
        vectors = [p for p in self.weights if p.ndim <= 1]
        self.optimiser = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}],
            lr=rate,
            betas=(0.9, 0.99),
            fused=True,
        )
        self.average = [p.detach().clone() for p in self.weights]
        self.steps, self.samples, self.spent = 0, 0, 0.0
        self.began = 0.0  # when this sitting's first step began
        self._waiting: list[dict[str, torch.Tensor]] = []
        self.folder = work / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self._resume()

    @property
    def share(self) -> float:
        """How much of the time from `since` to `minutes` is spent, 0 to 1."""
        whole = self.minutes - self.since
        return min(1.0, max(0.0, self.spent / 60 - self.since) / whole) if whole > 0 else 1.0

    def run(self, batch_size: int, until: float = 1.0) -> Iterator[int]:
        """Yield step numbers until this share of the stage's time, or this sitting, is over. Saves as it goes."""
        last = saved = time.monotonic()
        self.began = self.began or last
        first = self.steps
        warm_until = self.steps + _WARM  # also after a resume: the optimiser may start afresh
        while self.share < min(1.0, until) and (self.sitting is None or time.monotonic() - self.began < self.sitting * 60):
            rate = self.rate * min(1.0, 1 - (warm_until - self.steps - 1) / _WARM) * _decay(self.share)
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            yield self.steps
            self.steps += 1
            self.samples += batch_size
            now = time.monotonic()
            if self.steps - first > 2:  # the first steps of a sitting may compile for a minute: that is not learning
                self.spent += now - last
            last = now
            if self.steps % 50 == 0 or self.steps - first <= 2:
                self._report()
            if now - saved > self.every:
                self.save()
                saved = time.monotonic()
                last = saved  # saving is not learning
        self._report()
        self.save()

    def learn(self, loss: torch.Tensor, **shown: torch.Tensor) -> None:
        """One optimiser step on `loss`; nothing here waits for a GPU."""
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optimiser.step()
        keep = min(self.averaging, (self.steps + 1) / (self.steps + 12))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.weights], 1 - keep)  # pyright: ignore[reportPrivateImportUsage]
        self._waiting.append({k: v.detach().float() for k, v in {"loss": loss, **shown}.items()})

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the modules hold the averaged weights and are in evaluation mode."""
        self._swap()
        for module in self.modules.values():
            module.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self._swap()
            for module in self.modules.values():
                module.train()

    def _swap(self) -> None:
        for weight, mean in zip(self.weights, self.average, strict=True):
            held = weight.data.clone()
            weight.data.copy_(mean)
            mean.copy_(held)

    def _report(self) -> None:
        if not self._waiting:
            return
        means = {k: torch.stack([w[k] for w in self._waiting]).mean().item() for k in self._waiting[0]}
        self._waiting.clear()
        if not math.isfinite(means["loss"]):
            raise FloatingPointError(f"{self.name}: the loss is not a number at step {self.steps}; lower the rate")
        row = {"step": self.steps, "seconds": round(self.spent, 1), "samples": self.samples, **means}
        file = self.folder / "curve.csv"
        is_new = not file.exists()
        with file.open("a", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, row.keys())
            if is_new:
                writer.writeheader()
            writer.writerow(row)
        speed = f"{self.samples / self.spent:.0f} samples/s" if self.spent else "starting"
        shown = "  ".join(f"{k} {v:.4f}" for k, v in means.items())
        print(f"{self.name} {self.steps:6d}  {self.share:4.0%}  {shown}  {speed}", flush=True)

    def save(self) -> None:
        """Everything needed to go on, written beside and then moved into place."""
        state = {
            "modules": {k: m.state_dict() for k, m in self.modules.items()},
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "counters": (self.steps, self.samples, self.spent),
        }
        half_written = self.folder / "state.part"
        torch.save(state, half_written)
        os.replace(half_written, self.folder / "state.pt")
        draw_curve(self.folder / "curve.csv", self.folder / "curve.png")

    def _resume(self) -> None:
        file = self.folder / "state.pt"
        if not file.exists():
            return
        state = torch.load(file, map_location=self.weights[0].device, weights_only=True)
        for mean, saved in zip(self.average, state["average"], strict=True):
            mean.copy_(saved)
        if state["modules"] is None:  # carried from another machine: the averaged weights alone
            for weight, mean in zip(self.weights, self.average, strict=True):
                weight.data.copy_(mean)
            for name, kept in state.get("buffers", {}).items():
                self.modules[name].load_state_dict(kept, strict=False)
        else:
            for name, module in self.modules.items():
                module.load_state_dict(state["modules"][name])
        if state["optimiser"] is not None:
            self.optimiser.load_state_dict(state["optimiser"])
        self.steps, self.samples, self.spent = state["counters"]
        print(f"{self.name}: goes on at step {self.steps}, {self.share:.0%} of its time spent", flush=True)


def running(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """What batch norms have measured: no weights, and a network is not whole without it."""
    return {name: value for name, value in module.state_dict().items() if name.endswith(RUNNING)}


def _decay(share: float) -> float:
    """Full rate for 30 % of the time, then half a cosine down to 2 %."""
    return 1.0 if share < 0.3 else 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (share - 0.3) / 0.7))


def grid(pictures: Sequence[Image.Image], columns: int, file: Path, labels: Sequence[str] = (), side: int = 128) -> None:
    """A contact sheet, with a small line of text above each picture where labels are given."""
    head = 14 if labels else 0
    rows = math.ceil(len(pictures) / columns)
    sheet = Image.new("RGB", (columns * side, rows * (side + head)), "white")
    pen = ImageDraw.Draw(sheet)
    for place, picture in enumerate(pictures):
        x, y = place % columns * side, place // columns * (side + head)
        sheet.paste(picture.convert("RGB").resize((side, side), Image.Resampling.LANCZOS), (x, y + head))
        if labels:
            pen.text((x + 2, y + 1), labels[place][: side // 6], fill="black")
    file.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(file)


def draw_curve(table: Path, file: Path, size: tuple[int, int] = (640, 240)) -> None:
    """The loss of a `curve.csv` as a picture: time to the right, loss upwards, logarithmic."""
    if not table.exists():
        return
    with table.open(encoding="utf-8") as stream:
        rows = [(float(r["seconds"]), float(r["loss"])) for r in csv.DictReader(stream) if r["loss"]]
    if len(rows) < 2 or rows[-1][0] <= 0:
        return
    heights = [math.log(max(loss, 1e-9)) for _, loss in rows]
    low, high = min(heights), max(heights)
    width, height = size
    points = [
        (8 + (width - 16) * seconds / rows[-1][0], 24 + (height - 32) * (1 - (h - low) / max(high - low, 1e-9)))
        for (seconds, _), h in zip(rows, heights, strict=True)
    ]
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    pen.line(points, fill="#1c7ed6", width=2)
    pen.text((8, 6), f"loss {math.exp(low):.4f} .. {math.exp(high):.4f}, {rows[-1][0] / 60:.1f} minutes", fill="black")
    sheet.save(file)


def device_for(name: str | None) -> torch.device:
    """The device asked for, or a CUDA GPU where there is one."""
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


def mixed(device: torch.device) -> Any:
    """bf16 where matrices meet: on a GPU, and on a processor that multiplies in bf16 at least twice as fast as in fp32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda" or _cpu_likes_bf16())


@cache
def _cpu_likes_bf16() -> bool:
    """Measured once, a tenth of a second: processors with AVX512-BF16 or AMX gain up to fourfold, others lose."""

    def seconds(matrix: torch.Tensor) -> float:
        times = []
        for _ in range(4):  # the first prepares the library
            started = time.perf_counter()
            matrix @ matrix
            times.append(time.perf_counter() - started)
        return min(times[1:])

    matrix = torch.ones(1024, 1024)
    return 2 * seconds(matrix.bfloat16()) < seconds(matrix)


def layout(device: torch.device) -> torch.memory_format:
    """Channels last on a GPU. On a CPU the group norm's backward takes several times longer that way."""
    return torch.channels_last if device.type == "cuda" else torch.contiguous_format
