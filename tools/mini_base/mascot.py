"""Zibbo, the project's own mascot, drawn by code: a turquoise one-eyed creature with orange horns and a striped scarf.

One `Pose` gives one SVG; everything is plain geometry in a 128 x 128 field. The poses themselves are in `poses.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .render import BACKGROUNDS

TRIGGER = "zibbo"

BODY, BODY_DARK, BELLY = "#16b8a6", "#0b8f86", "#c9f3e4"
HORN, HORN_TIP = "#ff9a2e", "#ffd166"
IRIS, INK = "#d6336c", "#10302e"
SCARF, STRIPE = "#e63946", "#ffffff"
LID = f'fill="none" stroke="{INK}" stroke-width="4.5" stroke-linecap="round"'
LIP = f'fill="none" stroke="{INK}" stroke-width="3.5" stroke-linecap="round"'


@dataclass(frozen=True)
class Pose:
    """How Zibbo stands, looks and holds itself in one picture. Angles in degrees, lengths in 1/128 of the picture."""

    left_arm: float = 20  # 0 points sideways, 90 straight up, -90 straight down
    right_arm: float = 20
    left_foot: float = 0  # how far the foot steps outwards
    right_foot: float = 0
    lift: float = 0  # feet pulled up, as in a jump
    lean: float = 0
    scale: float = 1.0
    x: float = 0
    y: float = 0
    look: tuple[float, float] = (0, 0)
    eye: str = "open"  # open, closed, happy, half
    mouth: str = "smile"  # smile, laugh, flat, sad, oh
    turned: float = 0  # -1 faces left, 1 faces right
    prop: str | None = None
    background: str = "white"
    backdrop: str = "plain"
    action: str = ""  # what the caption says: `waving`, `asleep` ...


def svg(pose: Pose, pixels: int = 512) -> str:
    """The whole picture as an SVG document."""
    hip = 112 - pose.lift
    shift = pose.turned * 7
    parts = [
        _ground(pose),
        f'<g transform="translate({64 + pose.x:.2f} {66 + pose.y:.2f}) rotate({pose.lean:.2f}) '
        f'scale({pose.scale:.3f}) translate(-64 -66)">',
        _leg(50 - pose.left_foot * 0.4, hip, -pose.left_foot, pose.lift),
        _leg(78 + pose.right_foot * 0.4, hip, pose.right_foot, pose.lift),
        _arm(34, 74, 180 - pose.left_arm),
        _horns(shift),
        _body(shift),
        _face(pose, shift),
        _scarf(pose.turned),
        _arm(94, 74, pose.right_arm, hand=True),
        _prop(pose),
        "</g>",
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 128 128" width="{pixels}" height="{pixels}">'
        + "".join(parts)
        + "</svg>"
    )


def _hex(rgb: tuple[float, float, float]) -> str:
    return "#" + "".join(f"{max(0, min(255, round(c))):02x}" for c in rgb)


def _ground(pose: Pose) -> str:
    colour = BACKGROUNDS[pose.background]
    flat = f'<rect width="128" height="128" fill="{_hex(colour)}"/>'
    shade = _hex(tuple(c * 0.86 if sum(colour) > 200 else c + 26 for c in colour))  # type: ignore[arg-type]
    if pose.backdrop == "hill":
        return flat + f'<path d="M0 112 Q40 88 84 106 T128 102 V128 H0 Z" fill="{shade}"/>'
    if pose.backdrop == "floor":
        return flat + f'<ellipse cx="{64 + pose.x:.1f}" cy="119" rx="44" ry="6" fill="{shade}"/>'
    if pose.backdrop == "spots":
        places = ((30, 22, 5), (104, 30, 7), (16, 72, 6), (112, 84, 5), (92, 12, 3), (22, 104, 3))
        return flat + "".join(f'<circle cx="{x}" cy="{y}" r="{r}" fill="{shade}"/>' for x, y, r in places)
    return flat


def _leg(x: float, y: float, step: float, lift: float) -> str:
    foot_x, foot_y = x + step * 0.6, min(121.0, y + 11 - lift * 0.2)
    return (
        f'<path d="M{x:.1f} {y - 14:.1f} L{foot_x:.1f} {foot_y:.1f}" stroke="{BODY_DARK}" stroke-width="12" '
        f'stroke-linecap="round"/><ellipse cx="{foot_x + (2 if step >= 0 else -2):.1f}" cy="{foot_y + 1:.1f}" '
        f'rx="9" ry="5.5" fill="{BODY_DARK}"/>'
    )


def _hand(x: float, y: float, angle: float) -> tuple[float, float]:
    """Where the hand of an arm of length 22 from shoulder (x, y) at `angle` (0 right, 90 up) ends."""
    return x + 22 * math.cos(math.radians(angle)), y - 22 * math.sin(math.radians(angle))


def _arm(x: float, y: float, angle: float, hand: bool = False) -> str:
    hand_x, hand_y = _hand(x, y, angle)
    fist = f'<circle cx="{hand_x:.1f}" cy="{hand_y:.1f}" r="6.5" fill="{BODY}"/>' if hand else ""
    return (
        f'<path d="M{x} {y} L{hand_x:.1f} {hand_y:.1f}" stroke="{BODY_DARK}" stroke-width="11" stroke-linecap="round"/>{fist}'
    )


def _horns(shift: float) -> str:
    left, right = 46 + shift * 0.4, 82 + shift * 0.4
    return (
        f'<path d="M{left - 10:.1f} 38 Q{left - 20:.1f} 20 {left - 12:.1f} 5 Q{left:.1f} 14 {left + 9:.1f} 27 Z" '
        f'fill="{HORN}"/><path d="M{right + 10:.1f} 38 Q{right + 20:.1f} 20 {right + 12:.1f} 5 '
        f'Q{right:.1f} 14 {right - 9:.1f} 27 Z" fill="{HORN}"/>'
        f'<path d="M{left - 15.6:.1f} 14 Q{left - 14:.1f} 8 {left - 12:.1f} 5 Q{left - 8:.1f} 8 {left - 4:.1f} 11.6 Z" '
        f'fill="{HORN_TIP}"/><path d="M{right + 15.6:.1f} 14 Q{right + 14:.1f} 8 {right + 12:.1f} 5 '
        f'Q{right + 8:.1f} 8 {right + 4:.1f} 11.6 Z" fill="{HORN_TIP}"/>'
    )


def _body(shift: float) -> str:
    return (
        '<path d="M64 20 C90 20 98 42 100 68 C102 98 92 114 64 114 C36 114 26 98 28 68 C30 42 38 20 64 20 Z" '
        f'fill="{BODY}"/><ellipse cx="{64 + shift:.1f}" cy="97" rx="21" ry="15" fill="{BELLY}"/>'
    )


def _face(pose: Pose, shift: float) -> str:
    x, y = 64 + shift, 50
    if pose.eye == "closed":
        eye = f'<path d="M{x - 15} {y + 1} Q{x} {y + 15} {x + 15} {y + 1}" {LID}/>'
    elif pose.eye == "happy":
        eye = f'<path d="M{x - 15} {y + 6} Q{x} {y - 14} {x + 15} {y + 6}" {LID}/>'
    else:
        px, py = x + pose.look[0] + shift * 0.5, y + pose.look[1]
        eye = (
            f'<circle cx="{x}" cy="{y}" r="19" fill="#ffffff"/>'
            f'<circle cx="{px:.1f}" cy="{py:.1f}" r="10" fill="{IRIS}"/>'
            f'<circle cx="{px:.1f}" cy="{py:.1f}" r="5" fill="{INK}"/>'
            f'<circle cx="{px + 3:.1f}" cy="{py - 3:.1f}" r="2.2" fill="#ffffff"/>'
        )
        if pose.eye == "half":
            eye += f'<path d="M{x - 20} {y} A20 20 0 0 1 {x + 20} {y} Z" fill="{BODY_DARK}"/>'
    mouths = {
        "smile": f'<path d="M{x - 11} 74 Q{x} 84 {x + 11} 74" {LIP}/>',
        "laugh": f'<path d="M{x - 12} 73 H{x + 12} Q{x} 92 {x - 12} 73 Z" fill="{INK}"/>',
        "flat": f'<path d="M{x - 9} 77 H{x + 9}" {LIP}/>',
        "sad": f'<path d="M{x - 10} 80 Q{x} 71 {x + 10} 80" {LIP}/>',
        "oh": f'<ellipse cx="{x}" cy="77" rx="5" ry="6" fill="{INK}"/>',
    }
    return eye + mouths[pose.mouth]


def _scarf(turned: float) -> str:
    end = 88 if turned <= 0 else 34
    return (
        f'<path d="M28 82 Q64 102 100 82 L100 93 Q64 113 28 93 Z" fill="{SCARF}"/>'
        f'<path d="M{end} 92 l10 0 l2 20 l-12 0 Z" fill="{SCARF}"/><path d="M{end} 100 h11 v5 h-11 Z" fill="{STRIPE}"/>'
        f'<g fill="{STRIPE}"><path d="M40 88 l8 3 v10.5 l-8 -3 Z"/><path d="M60 92 h8 v11 h-8 Z"/>'
        '<path d="M80 91 l8 -3 v10.5 l-8 3 Z"/></g>'
    )


def _prop(pose: Pose) -> str:
    """What the right hand holds, drawn around the hand."""
    if pose.prop is None:
        return ""
    x, y = _hand(94, 74, pose.right_arm)
    stick = f'<path d="M{x:.1f} {y + 6:.1f} V{y - 22:.1f}" stroke="#7a5230" stroke-width="3" stroke-linecap="round"/>'
    shapes = {
        "balloon": f'<path d="M{x:.1f} {y:.1f} V{y - 18:.1f}" stroke="{INK}" stroke-width="1.6"/>'
        f'<ellipse cx="{x:.1f}" cy="{y - 30:.1f}" rx="12" ry="14" fill="#ffd43b"/>',
        "flower": f'<path d="M{x:.1f} {y + 8:.1f} V{y - 14:.1f}" stroke="#2f9e44" stroke-width="3"/>'
        + "".join(
            f'<circle cx="{x + 7 * math.cos(a * math.pi / 3):.1f}" cy="{y - 18 + 7 * math.sin(a * math.pi / 3):.1f}" '
            'r="5.4" fill="#ffffff" stroke="#f783ac" stroke-width="1"/>'
            for a in range(6)
        )
        + f'<circle cx="{x:.1f}" cy="{y - 18:.1f}" r="5" fill="#fcc419"/>',
        "book": f'<path d="M{x - 13:.1f} {y - 10:.1f} h26 v18 h-26 Z" fill="#1c4fa0"/>'
        f'<path d="M{x - 10:.1f} {y - 7:.1f} h20 v12 h-20 Z" fill="#fff4d6"/>'
        f'<path d="M{x:.1f} {y - 10:.1f} v18" stroke="#1c4fa0" stroke-width="2"/>',
        "cup": f'<path d="M{x - 8:.1f} {y - 13:.1f} h17 l-2 17 h-13 Z" fill="#ffffff" stroke="{INK}"/>'
        f'<path d="M{x - 7:.1f} {y - 8:.1f} h15 l-0.8 5 h-13.6 Z" fill="#8d5524"/>',
        "star": stick
        + '<path d="'
        + " ".join(
            f"{'M' if k == 0 else 'L'}{x + (11 if k % 2 == 0 else 4.6) * math.sin(k * math.pi / 5):.1f} "
            f"{y - 27 - (11 if k % 2 == 0 else 4.6) * math.cos(k * math.pi / 5):.1f}"
            for k in range(10)
        )
        + ' Z" fill="#ffd43b"/>',
        "lollipop": stick
        + f'<circle cx="{x:.1f}" cy="{y - 26:.1f}" r="10" fill="#f06595"/>'
        + f'<circle cx="{x:.1f}" cy="{y - 26:.1f}" r="5" fill="none" stroke="#ffffff" stroke-width="2.4"/>',
        "flag": stick + f'<path d="M{x:.1f} {y - 24:.1f} l-22 7 l22 7 Z" fill="#4263eb"/>',
        "lantern": f'<path d="M{x - 7:.1f} {y + 3:.1f} h14 v15 h-14 Z" fill="#ffe066" stroke="#5c3d1e"/>'
        f'<path d="M{x - 5:.1f} {y + 3:.1f} Q{x:.1f} {y - 7:.1f} {x + 5:.1f} {y + 3:.1f}" fill="none" stroke="#5c3d1e" '
        'stroke-width="2.4"/>',
    }
    return shapes[pose.prop]
