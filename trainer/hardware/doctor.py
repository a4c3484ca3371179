"""What works on this machine and how to mend what does not: `launch.py doctor`, and the page's Settings and Help.

Facts come from trainer/hardware/facts.py; here each rule turns them into sentences. Standard library only, so that it
also runs before anything is installed.
"""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import asdict, dataclass
from typing import Any

from trainer.core.home import Home
from trainer.core.texts import set_language, t
from trainer.hardware.facts import collect

ENOUGH_DISK, ENOUGH_MEMORY = 5e9, 8e9  # bytes: below this a real base model or its training does not fit well
MARKS = {True: "✓", False: "✗", None: "–"}


@dataclass(frozen=True)
class Check:
    """One line of the diagnosis. `ok` is None where it is worth knowing but nothing to mend."""

    name: str
    title: str
    ok: bool | None
    detail: str
    remedy: str = ""


def diagnose(
    home: Home, language: str | None = None, environment: str = "ready", facts: dict[str, Any] | None = None
) -> list[Check]:
    """All checks, with their words in `language`. Takes some seconds: torch is loaded in a child.

    `environment` is `missing`, `half` or `old` where launch.py found `.venv` not ready; `facts` are those of
    `collect`, where it was called before (the page shows one diagnosis in two languages).
    """
    facts = collect(home, environment) if facts is None else facts
    return [check for rule in RULES for check in rule(facts, language)]


def _check(name: str, ok: bool | None, language: str | None, key: str, remedy: str = "", /, **params: Any) -> Check:
    """A check in words: `doctor.<name>.title`, the finding under `key`, the advice under `remedy`, if there is any."""
    texts = {
        part: t(f"doctor.{part}", language=language, **params)
        for part in (f"{name}.title", f"{name}.{key}", f"{name}.{remedy}")
        if not part.endswith(".")
    }
    return Check(name, texts[f"{name}.title"], ok, texts[f"{name}.{key}"], texts.get(f"{name}.{remedy}", ""))


def _environment(facts: dict[str, Any], lang: str | None) -> list[Check]:
    state = facts["environment"]
    return [_check("environment", state == "ready", lang, state, "" if state == "ready" else "remedy")]


def _python(facts: dict[str, Any], lang: str | None) -> list[Check]:
    version = tuple(map(int, re.findall(r"\d+", facts["python"])[:2]))
    good = (3, 11) <= version <= (3, 13) and facts["bits"] == 64
    return [_check("python", good, lang, "detail", "" if good else "remedy", python=facts["python"], bits=facts["bits"])]


def _computer(facts: dict[str, Any], lang: str | None) -> list[Check]:
    cpu = _check("cpu", True, lang, "detail", cores=facts["cores"], name=facts["processor"], kind=facts["architecture"])
    if facts["memory"] is None:
        return [cpu]
    total, free = facts["memory"]
    enough = total >= ENOUGH_MEMORY * 0.9
    gigabytes = {"total": f"{total / 1e9:.1f}", "free": f"{free / 1e9:.1f}"}
    memory = _check("memory", True if enough else None, lang, "detail", "" if enough else "remedy", **gigabytes)
    return [cpu, memory]


def _disk(facts: dict[str, Any], lang: str | None) -> list[Check]:
    params = {"free": f"{facts['disk'] / 1e9:.1f}", "folder": facts["home"]}
    if not facts["writable"]:
        return [_check("disk", False, lang, "locked", "locked_remedy", **params)]
    enough = facts["disk"] >= ENOUGH_DISK
    return [_check("disk", enough, lang, "detail", "" if enough else "remedy", **params)]


def _card(facts: dict[str, Any], lang: str | None) -> list[Check]:
    cards, torch = facts["cards"], facts["torch"] or {}
    if cards:
        return [_check("card", True, lang, "nvidia", name=card["name"], driver=card["driver"]) for card in cards]
    if torch.get("mps"):
        return [_check("card", True, lang, "apple")]
    return [_check("card", None, lang, "none", "none_remedy")]


def _torch(facts: dict[str, Any], lang: str | None) -> list[Check]:
    """The build against the card: the case people lose days to is a CPU build beside a good card."""
    torch, cards = facts["torch"], facts["cards"]
    if torch is None:
        return []
    if "failed" in torch:
        return [_check("torch", False, lang, torch["failed"], "broken_remedy", detail=torch.get("detail", ""))]
    version = torch["version"]
    if torch["cuda_works"]:
        return [_check("torch", True, lang, "cuda", version=version, cuda=torch["cuda"])]
    if cards and torch["cuda"] is None:
        return [_check("torch", False, lang, "cpu_beside_card", "reinstall", version=version, card=cards[0]["name"])]
    if cards:
        params = {"version": version, "cuda": torch["cuda"], "driver": cards[0]["driver"], "detail": torch["why"]}
        return [_check("torch", False, lang, "cuda_fails", "driver", **params)]
    return [_check("torch", True, lang, "mps" if torch["mps"] else "cpu", version=version)]


def _attention(facts: dict[str, Any], lang: str | None) -> list[Check]:
    torch = facts["torch"] or {}
    if "attention" not in torch:
        return []
    name, why = torch["attention"]
    key = "detail" if torch["cuda_works"] else "no_cuda"
    checks = [_check("attention", True, lang, key, name=name, why=why)]
    xformers = torch["xformers"]
    if xformers["state"] == "works":
        return [*checks, _check("xformers", True, lang, "works", version=xformers["version"])]
    remedy = "remedy" if torch["cuda_works"] else ""
    return [*checks, _check("xformers", None, lang, xformers["state"], remedy, detail=xformers["detail"])]


def _packages(facts: dict[str, Any], lang: str | None) -> list[Check]:
    wrong = [f"{name} {installed or '–'} ≠ {pin}" for name, pin, installed in facts["versions"] if installed != pin]
    if not facts["versions"]:
        return []
    if wrong:
        return [_check("packages", False, lang, "differ", "remedy", list=", ".join(wrong))]
    return [_check("packages", True, lang, "detail", n=len(facts["versions"]))]


def _around(facts: dict[str, Any], lang: str | None) -> list[Check]:
    hub, fonts = facts["hub"], facts["fonts"]
    checks = [_check("hub", hub or None, lang, "answers" if hub else "silent", "" if hub else "remedy")]
    if fonts is not None:
        checks.append(_check("fonts", fonts or None, lang, "there" if fonts else "missing", "" if fonts else "remedy"))
    return checks


def _memory_plans(facts: dict[str, Any], lang: str | None) -> list[Check]:
    """Which settings fit into what is free on the first card, by family at its own size."""
    free = facts["cards"][0].get("free", 0) if facts["cards"] else 0
    if not free or facts["environment"] != "ready":
        return []
    from trainer.config.sections.lora import Lora
    from trainer.hardware import memory

    lines = []
    for family, counts in memory.counted().items():
        lora = Lora(train_text_encoder=family != "sdxl")
        plan, fits = memory.suggest(family, counts["side"], free, lora)
        plan_line = plan_text(plan, lang) if fits else t("memory.none", language=lang)
        lines.append(
            t(
                "memory.line",
                language=lang,
                family=t(f"memory.{family}", language=lang),
                side=counts["side"],
                rung=plan_line,
                size=f"{plan.bytes / 1e9:.1f}",
            )
        )
    return [_check("ladder", None, lang, "detail", free=f"{free / 1e9:.1f}", lines="; ".join(lines))]


def plan_text(plan: Any, lang: str | None) -> str:
    """A memory plan in words, "batch 1 x 4, gradient checkpointing, …"."""
    parts = [t("memory.batch", language=lang, batch=plan.batch, accumulation=plan.accumulation)]
    if plan.checkpointing:
        parts.append(t("memory.checkpointing", language=lang))
    if plan.precision != "full":
        parts.append(t(f"memory.{plan.precision}", language=lang))
    if plan.offload:
        parts.append(t("memory.offload", language=lang, percent=f"{plan.offload:.0%}".rstrip("%")))
    parts.append(t("memory.text_on" if plan.text_encoder else "memory.text_off", language=lang))
    return ", ".join(parts)


RULES = (_environment, _python, _computer, _card, _memory_plans, _torch, _attention, _packages, _disk, _around)


def as_text(checks: list[Check]) -> str:
    """The diagnosis as lines for a terminal."""
    rows = []
    for check in checks:
        rows.append(f"{MARKS[check.ok]} {check.title}: {check.detail}")
        if check.remedy:
            rows.append(f"    → {check.remedy}")
    return "\n".join(rows)


def main(arguments: list[str], environment: str = "ready") -> int:
    """`doctor [--json] [--home DIR] [--lang en|ja]`. The status is 0 when the diagnosis was made, whatever it says."""
    parser = argparse.ArgumentParser(prog="python launch.py doctor", description=t("doctor.about"))
    parser.add_argument("--json", action="store_true", help=t("doctor.json"))
    parser.add_argument("--home", default=None, help=t("doctor.home"))
    parser.add_argument("--lang", default=None, choices=("en", "ja"), help=t("doctor.lang"))
    args = parser.parse_args(arguments)
    if args.lang:
        set_language(args.lang)
    checks = diagnose(Home.find(args.home), environment=environment)
    if args.json:
        print(json.dumps({"checks": [asdict(check) for check in checks]}, ensure_ascii=False, indent=2))
    else:
        print(as_text(checks))
    return 0
