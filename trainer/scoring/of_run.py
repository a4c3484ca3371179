"""A run's test pictures, scored after each drawing from the files it saved. What goes wrong is told once; the run goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from trainer import scoring
from trainer.bases.facts import BaseFacts
from trainer.config.plan import draws
from trainer.config.train import TrainConfig
from trainer.core import events
from trainer.core.home import Home
from trainer.core.run_dir import RunDir
from trainer.images.set.picture import Picture

if TYPE_CHECKING:
    from trainer.scoring.measure import SimilarityScorer

MOST = 400
"""Pictures of the set that are compared with, evenly over it: a large CLIP takes up to a second for each on a CPU, once."""


class RunScorer:
    """Scores one run's pictures on the CPU. `seen` are its scores by step, as far as this process made them."""

    def __init__(
        self, run: RunDir, config: TrainConfig, home: Home, base: BaseFacts, pictures: list[Picture],
        emit: Callable[[events.Event], None],
    ) -> None:  # fmt: skip
        self.run, self.config, self.home, self.base, self.emit = run, config, home, base, emit
        self.pictures = pictures[:: -(-len(pictures) // MOST) or 1]
        self.on = config.validation.similarity_model != scoring.OFF and not draws(
            config
        )  # what the base drew is no set to be like
        self.seen: dict[int, events.Scored] = {}
        self._scorer: SimilarityScorer | None = None

    def score(self, step: int, shots: list[tuple[str, float]]) -> None:
        """Look at the pictures drawn at `step`, one for each (prompt, strength), and emit their scores."""
        if not self.on:
            return
        try:
            scorer = self._scorer = self._scorer or self._make_scorer()
            if scorer is None:
                self.on = False
                return
            from trainer.scoring.measure import SampleImage

            drawn = [
                SampleImage(self.run.sample(step, index), prompt, strength if step else 0.0)
                for index, (prompt, strength) in enumerate(shots)
            ]
            scored = self.seen[step] = scorer.score(drawn, step)
        except Exception as error:  # a boundary: a score is never worth a training, whatever its model or pictures do
            self.on, self._scorer = False, None
            why = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
            self.emit(events.Note(code="likeness_off", params={"why": why}))
            return
        self.emit(scored)

    def hint(self, step: int) -> events.Note | None:
        """A word beside the suggestion of `step`, which it does not change: test pictures there that are nearly pictures of
        the set, and the last earlier step without any."""
        scored = self.seen.get(step)
        copies = [one for one in scored.pictures if one.copied] if scored else []
        if scored is None or not copies:
            return None
        params = {"step": step, "count": len(copies), "of": len(scored.pictures),
                "pictures": ", ".join(dict.fromkeys(one.nearest for one in copies))}  # fmt: skip
        free = [at for at, one in self.seen.items() if 0 < at < step and not any(p.copied for p in one.pictures)]
        if not free:
            return events.Note(code="likeness_copies", params=params)
        return events.Note(code="likeness_copies_later", params=params | {"free": max(free)})

    def _make_scorer(self) -> SimilarityScorer | None:
        model = self.config.validation.similarity_model
        folder = scoring.find(self.home, model, self.base)
        if folder is None and model == scoring.AUTO:
            return None
        if folder is None:
            folder = scoring.CLIPS.fetch(
                self.home, scoring.KNOWN.get(model, model),
                lambda done, of: self.emit(events.Stage(name="fetching", done=done, of=of)),
            )  # fmt: skip
        from trainer.scoring.measure import SimilarityScorer

        captions = self.config.captions
        return SimilarityScorer(
            folder, self.pictures, captions.trigger, self.home.cache,
            lambda done, of: self.emit(events.Stage(name="scoring", done=done, of=of)), weights=captions.weighted,
        )  # fmt: skip
