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


class RunLikeness:
    """Scores one run's pictures on the CPU. `seen` are its scores by step, as far as this process made them."""

    def __init__(
        self, run: RunDir, config: TrainConfig, home: Home, base: BaseFacts, pictures: list[Picture],
        tell: Callable[[events.Event], None],
    ) -> None:  # fmt: skip
        self.run, self.config, self.home, self.base, self.tell = run, config, home, base, tell
        self.pictures = pictures[:: -(-len(pictures) // MOST) or 1]
        self.on = config.validation.similarity_model != scoring.OFF and not draws(
            config
        )  # what the base drew is no set to be like
        self.seen: dict[int, events.Scored] = {}
        self._measure: SimilarityScorer | None = None

    def score(self, step: int, shots: list[tuple[str, float]]) -> None:
        """Look at the pictures drawn at `step`, one for each (prompt, strength), and tell their scores."""
        if not self.on:
            return
        try:
            measure = self._measure = self._measure or self._made()
            if measure is None:
                self.on = False
                return
            from trainer.scoring.measure import SampleImage

            drawn = [
                SampleImage(self.run.sample(step, index), prompt, strength if step else 0.0)
                for index, (prompt, strength) in enumerate(shots)
            ]
            scored = self.seen[step] = measure.score(drawn, step)
        except Exception as error:  # a boundary: a score is never worth a training, whatever its model or pictures do
            self.on, self._measure = False, None
            why = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
            self.tell(events.Note(code="likeness_off", params={"why": why}))
            return
        self.tell(scored)

    def hint(self, step: int) -> events.Note | None:
        """A word beside the suggestion of `step`, which it does not change: test pictures there that are nearly pictures of
        the set, and the last earlier step without any."""
        scored = self.seen.get(step)
        copies = [one for one in scored.pictures if one.copied] if scored else []
        if scored is None or not copies:
            return None
        told = {"step": step, "count": len(copies), "of": len(scored.pictures),
                "pictures": ", ".join(dict.fromkeys(one.nearest for one in copies))}  # fmt: skip
        free = [at for at, one in self.seen.items() if 0 < at < step and not any(p.copied for p in one.pictures)]
        if not free:
            return events.Note(code="likeness_copies", params=told)
        return events.Note(code="likeness_copies_later", params=told | {"free": max(free)})

    def _made(self) -> SimilarityScorer | None:
        given = self.config.validation.similarity_model
        folder = scoring.find(self.home, given, self.base)
        if folder is None and given == scoring.AUTO:
            return None
        if folder is None:
            folder = scoring.CLIPS.fetch(
                self.home, scoring.KNOWN.get(given, given),
                lambda done, of: self.tell(events.Stage(name="fetching", done=done, of=of)),
            )  # fmt: skip
        from trainer.scoring.measure import SimilarityScorer

        captions = self.config.captions
        return SimilarityScorer(
            folder, self.pictures, captions.trigger, self.home.cache,
            lambda done, of: self.tell(events.Stage(name="scoring", done=done, of=of)), weights=captions.weighted,
        )  # fmt: skip
