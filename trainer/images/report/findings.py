"""The looks a report takes at a set: one function a kind, each from `Evidence` to findings. `ALL` is the list.

Thresholds stand beside their function, with what they were measured against.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from trainer.images.captions import captions
from trainer.images.geometry import buckets
from trainer.images.report.finding import Action, Evidence, Finding, Severity
from trainer.images.set.limits import LIMITS
from trainer.images.set.picture import Picture

FEW = {"style": 10, "character": 8, "concept": 5}
BLURRY = 0.70
"""Sharp drawings measure 0.18 to 0.26, sharp photographs 0.20 to 0.45; a Gaussian of 2 pixels gives 0.57 to 0.82."""
NEAR_BITS, NEAR_COLOUR = 6, 12.0
"""Of 64 hash bits, and the mean difference of 8 x 8 thumbnails on the 0..255 scale."""
MOST = 0.9
CUT_MUCH = 0.25


def unreadable(evidence: Evidence) -> Iterator[Finding]:
    """Files meant as pictures that cannot be decoded: one finding each, and each blocks."""
    for file, refusal in evidence.unreadable:
        share = 1 / max(1, len(evidence.pictures))
        params = {"reason": refusal.code, "reason_params": refusal.params}
        own = (file.name,) if file.parent == evidence.folder else ()
        action: Action | None = "remove" if own else None
        yield Finding("unreadable", "blocks", (evidence.shown(file),), "", params, action, own, share)


def tiny(evidence: Evidence) -> Iterator[Finding]:
    """Less than 0.7 of the training size: enlarged so far, softness itself is learnt."""
    small = [p for p in evidence.pictures if (p.width * p.height) ** 0.5 < 0.7 * evidence.resolution]
    yield from _of("tiny", "hurts", small, evidence, {"side": evidence.resolution}, "remove")


def blurry(evidence: Evidence) -> Iterator[Finding]:
    """Pictures whose blur (0 sharp to 1, see measures.py) is above `BLURRY`, the worst first."""
    how = {p.id: evidence.measured[p.id].blur for p in evidence.pictures}
    soft = sorted((p for p in evidence.pictures if how[p.id] > BLURRY), key=lambda p: -how[p.id])
    yield from _of("blurry", "hurts", soft, evidence, {}, "remove")


def exposure(evidence: Evidence) -> Iterator[Finding]:
    """By the darkest and brightest hundredth, so that a line drawing on white is not called too bright."""
    for text, wrong in (
        ("exposure_dark", lambda m: m.bright < 70),
        ("exposure_bright", lambda m: m.dark > 190),
        ("exposure_flat", lambda m: m.bright >= 70 and m.dark <= 190 and m.bright - m.dark < 40),
    ):
        pictures = [p for p in evidence.pictures if wrong(evidence.measured[p.id])]
        yield from _of("exposure", "hurts", pictures, evidence, {}, "remove", text)


def ratio(evidence: Evidence) -> Iterator[Finding]:
    """Pictures with one side more than `LIMITS.ratio_finding` times as long as the other."""
    long = [p for p in evidence.pictures if max(p.width, p.height) > LIMITS.ratio_finding * min(p.width, p.height)]
    yield from _of("ratio", "hurts", long, evidence, {"limit": f"{LIMITS.ratio_finding:g}"}, "remove")


def duplicate(evidence: Evidence) -> Iterator[Finding]:
    """Same, resized, recompressed or mirrored pictures, one finding a group, the largest picture first: it is kept."""
    for group, mirrored in groups(evidence):
        exact = len({p.content for p in group}) == 1 if len({(p.width, p.height) for p in group}) == 1 else False
        text = "duplicate_exact" if exact else "duplicate_mirror" if mirrored else "duplicate"
        keep = group[0].original
        if len({p.file.parent for p in group}) > 1:
            text, keep = "duplicate_across", evidence.shown(group[0].file)
        params = {"count": len(group), "keep": keep, "all": len(evidence.pictures)}
        targets = _ids(group[1:])
        share = (len(group) - 1) / len(evidence.pictures)
        action: Action | None = "remove" if targets else None
        yield Finding("duplicate", "hurts", _names(group, evidence), text, params, action, targets, share)


def groups(evidence: Evidence) -> list[tuple[list[Picture], bool]]:
    """Pictures that are nearly the same, and whether some are only so in the mirror."""
    count = len(evidence.pictures)
    if count < 2:
        return []
    measured = [evidence.measured[p.id] for p in evidence.pictures]
    plain, mirror = (np.array([getattr(m, key) for m in measured], np.uint64) for key in ("hash", "mirror"))
    thumbs = np.array([m.colours() for m in measured])
    parent, flipped = list(range(count)), set()
    for i in range(count - 1):
        for others, turned in ((plain, False), (mirror, True)):
            near = np.flatnonzero(np.bitwise_count(others[i + 1 :] ^ plain[i]) <= NEAR_BITS) + i + 1
            mine = thumbs[i, :, ::-1] if turned else thumbs[i]
            for j in near:
                if float(np.abs(thumbs[j] - mine).mean()) <= NEAR_COLOUR and _root(parent, i) != _root(parent, int(j)):
                    parent[_root(parent, int(j))] = _root(parent, i)
                    flipped |= {_root(parent, i)} if turned else set()
    together: dict[int, list[Picture]] = {}
    for i, picture in enumerate(evidence.pictures):
        together.setdefault(_root(parent, i), []).append(picture)
    return [
        (sorted(group, key=lambda p: -p.width * p.height), root in flipped)
        for root, group in together.items()
        if len(group) > 1
    ]


def sameness(evidence: Evidence) -> Iterator[Finding]:
    """What is the same in nine of ten pictures is learnt as part of the thing itself, unless the captions name it."""
    count = len(evidence.pictures)
    if count < 5:
        return
    plain = [(p, np.array(evidence.measured[p.id].border)) for p in evidence.pictures if evidence.measured[p.id].border]
    if len(plain) >= MOST * count:
        middle = np.median([colour for _, colour in plain], axis=0)
        same = [p for p, colour in plain if np.abs(colour - middle).max() <= 12]
        named = sum("background" in p.caption.casefold() or "背景" in p.caption for p in same)
        if len(same) >= MOST * count and named < MOST * len(same):
            colour = "#{:02x}{:02x}{:02x}".format(*(int(part) for part in middle))
            params = {"count": len(same), "all": count, "colour": colour}
            severity: Severity = "hint" if evidence.kind == "style" else "hurts"
            names = _names(same, evidence)
            yield Finding("sameness", severity, names, "sameness_background", params, "caption", _ids(same), 0.4)
    tags = Counter(tag for p in evidence.pictures for tag in {part.casefold() for part in captions.tags(p.caption)})
    for tag, times in tags.items():
        is_named = captions.has(tag, evidence.trigger) or "background" in tag or "背景" in tag
        if times >= MOST * count and not is_named:
            yield Finding("sameness", "hint", (), "sameness_tag", {"tag": tag, "count": times, "all": count})


def count(evidence: Evidence) -> Iterator[Finding]:
    """Too few pictures for the kind of set, or more than a set may have."""
    have, few = len(evidence.pictures), FEW.get(evidence.kind, 10)
    params = {"count": have, "few": few, "limit": LIMITS.pictures}
    if have == 0:
        yield Finding("count", "blocks", (), "count_none", params, "add")
    elif have < 3:
        yield Finding("count", "hurts", (), "count_very_few", params, "add")
    elif have < few:
        yield Finding("count", "hint", (), "count_few", params, "add")
    elif have > LIMITS.pictures:
        yield Finding("count", "blocks", (), "count_many", params, "remove", _ids(evidence.pictures[LIMITS.pictures :]))


def caption_missing(evidence: Evidence) -> Iterator[Finding]:
    """Pictures without a caption: a hint where a trigger stands in its place, otherwise it hurts."""
    bare = [p for p in evidence.pictures if not p.caption]
    severity: Severity = "hint" if evidence.trigger.strip() and evidence.kind != "style" else "hurts"
    yield from _of("caption_missing", severity, bare, evidence, {}, "caption", weight=0.5)


def caption_same(evidence: Evidence) -> Iterator[Finding]:
    """One caption at half of the pictures or more, and at four of them at least."""
    counts = Counter(p.caption for p in evidence.pictures if p.caption)
    if not counts:
        return
    text, times = counts.most_common(1)[0]
    if times >= 4 and times >= len(evidence.pictures) / 2:
        same = [p for p in evidence.pictures if p.caption == text]
        yield from _of("caption_same", "hurts", same, evidence, {"caption": text[:80]}, "caption", weight=0.4)


def caption_long(evidence: Evidence) -> Iterator[Finding]:
    """Captions that with the trigger come to more than the tokens CLIP reads (an estimate: no tokenizer is loaded)."""
    captions_ = {p.id: captions.with_trigger(p.caption, evidence.trigger) for p in evidence.pictures}
    full = [p for p in evidence.pictures if captions.estimate_tokens(captions_[p.id]) > LIMITS.caption_tokens]
    yield from _of("caption_long", "hint", full, evidence, {"limit": LIMITS.caption_tokens}, "caption")


def trigger(evidence: Evidence) -> Iterator[Finding]:
    """A style can do without a trigger, a character or a thing can hardly be called without one."""
    problem = captions.trigger_problem(evidence.trigger)
    if problem == "empty":
        if evidence.kind != "style":
            yield Finding("trigger", "hurts", (), "trigger_empty", {}, "set_trigger", share=0.4)
        return
    if problem == "common":
        params = {"word": evidence.trigger, "proposal": captions.propose_trigger(evidence.trigger)}
        yield Finding("trigger", "hurts", (), "trigger_common", params, "set_trigger", share=0.3)
    lacking = [p for p in evidence.pictures if p.caption and not captions.has(p.caption, evidence.trigger)]
    yield from _of("trigger", "hint", lacking, evidence, {"word": evidence.trigger}, "add_trigger", "trigger_absent")


def bucket(evidence: Evidence) -> Iterator[Finding]:
    """How much of each picture the format it is trained in cuts off."""
    step = buckets.step_for(evidence.resolution, evidence.step)
    formats = buckets.buckets(evidence.resolution, step, evidence.ratio, evidence.dense)
    cut = []
    for p in evidence.pictures:
        best = buckets.assign(p.width, p.height, formats, upscale=evidence.upscale, step=step)
        if buckets.cut_share(p.width, p.height, best) > CUT_MUCH:
            cut.append(p)
    yield from _of("bucket", "hint", cut, evidence, {"share": round(100 * CUT_MUCH)}, "crop")


def _of(
    kind: str,
    severity: Severity,
    pictures: Sequence[Picture],
    evidence: Evidence,
    params: dict[str, Any],
    action: Action,
    text: str = "",
    weight: float = 1.0,
) -> Iterator[Finding]:
    """One finding over several pictures, none for none."""
    if pictures:
        all_params = {"count": len(pictures), "all": len(evidence.pictures), **params}
        share = weight * len(pictures) / len(evidence.pictures)
        own = _ids(pictures)
        yield Finding(kind, severity, _names(pictures, evidence), text, all_params, action if own else None, own, share)


def _names(pictures: Sequence[Picture], evidence: Evidence) -> tuple[str, ...]:
    return tuple(evidence.shown(p.file) for p in pictures)


def _ids(pictures: Sequence[Picture]) -> tuple[str, ...]:
    """What a click may change: the pictures of the set's own folder."""
    return tuple(p.id for p in pictures if "/" not in p.id)


def _root(parent: list[int], i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


ALL: tuple[Callable[[Evidence], Iterator[Finding]], ...] = (
    unreadable, tiny, blurry, exposure, ratio, duplicate, sameness, count,
    caption_missing, caption_same, caption_long, trigger, bucket,
)  # fmt: skip
