"""The poses Zibbo is drawn in: sixteen picked by hand for the example set, any number of others for the judge.

`example_sets.py` draws the first, `data.py` puts the second into the pack. The two groups share no prop.
"""

from __future__ import annotations

import random

from .mascot import TRIGGER, Pose
from .render import BACKGROUNDS

# What Zibbo may hold. The first group is for the example set, the second for the judge alone.
EXAMPLE_PROPS = ("balloon", "flower", "book", "cup")
OTHER_PROPS = ("star", "lollipop", "flag", "lantern")
BACKDROPS = ("plain", "hill", "floor", "spots")


def caption(pose: Pose) -> str:
    """`a zibbo mascot waving, holding a balloon, blue background`."""
    what = f"a {TRIGGER} mascot" + (f" {pose.action}" if pose.action else "")
    held = f", holding a {pose.prop}" if pose.prop else ""
    return f"{what}{held}, {pose.background} background"


EXAMPLE_POSES = (
    Pose(left_arm=-30, right_arm=65, action="waving"),
    Pose(
        left_arm=70,
        right_arm=70,
        left_foot=6,
        right_foot=6,
        lift=8,
        y=-4,
        mouth="laugh",
        eye="happy",
        background="yellow",
        backdrop="floor",
        action="jumping",
    ),
    Pose(left_arm=-55, right_arm=-55, background="blue", action="standing"),
    Pose(left_arm=-60, right_arm=-60, eye="closed", mouth="flat", lean=-14, y=3, background="black", action="asleep"),
    Pose(left_arm=-40, right_arm=48, prop="balloon", scale=0.86, y=8, x=-6, background="pink", action="smiling"),
    Pose(
        left_arm=-30,
        right_arm=25,
        prop="flower",
        x=-6,
        scale=0.9,
        look=(5, 3),
        background="white",
        action="looking right",
    ),
    Pose(
        left_arm=35,
        right_arm=-35,
        turned=-1,
        left_foot=10,
        right_foot=-4,
        lean=-8,
        background="green",
        backdrop="hill",
        action="walking left",
    ),
    Pose(
        left_arm=-35,
        right_arm=35,
        turned=1,
        left_foot=-4,
        right_foot=10,
        lean=9,
        mouth="laugh",
        background="yellow",
        backdrop="hill",
        action="running right",
    ),
    Pose(
        left_arm=-50,
        right_arm=-10,
        prop="book",
        turned=0.6,
        look=(4, 6),
        mouth="flat",
        scale=0.92,
        x=-5,
        background="white",
        action="reading",
    ),
    Pose(left_arm=-45, right_arm=10, prop="cup", eye="half", x=-6, scale=0.9, background="gray", action="looking tired"),
    Pose(left_arm=-65, right_arm=-65, mouth="sad", look=(0, 6), background="blue", backdrop="spots", action="looking sad"),
    Pose(left_arm=55, right_arm=55, mouth="oh", look=(0, -5), background="purple", action="looking surprised"),
    Pose(scale=0.62, y=16, left_arm=10, right_arm=10, background="white", backdrop="floor", action="far away"),
    Pose(scale=1.42, y=26, left_arm=-20, right_arm=-20, look=(-4, 0), background="red", action="close up"),
    Pose(
        scale=0.74,
        x=-24,
        y=10,
        left_arm=20,
        right_arm=60,
        look=(6, -2),
        mouth="laugh",
        background="pink",
        backdrop="spots",
        action="on the left",
    ),
    Pose(scale=0.8, x=16, y=6, lean=12, left_arm=38, right_arm=-30, eye="happy", background="white", action="dancing"),
)


def other_pose(chance: random.Random) -> Pose:
    """A pose that no example picture shows: free angles and places, and only props the example set does not hold."""
    prop = chance.choice(OTHER_PROPS) if chance.random() < 0.35 else None
    scale = chance.uniform(0.6, 1.25) if prop is None else chance.uniform(0.6, 0.9)
    room = 14 * (1.3 - scale) * 2
    return Pose(
        left_arm=chance.uniform(-65, 80),
        right_arm=chance.uniform(-65, 80) if prop is None else chance.uniform(0, 45),
        left_foot=chance.uniform(-4, 10),
        right_foot=chance.uniform(-4, 10),
        lift=chance.choice((0, 0, 0, 6)),
        lean=chance.uniform(-18, 18),
        scale=scale,
        x=chance.uniform(-room, room) - (5 if prop else 0),
        y=chance.uniform(-room, room) * 0.6 + (1 - scale) * 20,
        look=(chance.uniform(-6, 6), chance.uniform(-6, 6)),
        eye=chance.choices(("open", "closed", "happy", "half"), (6, 1, 1, 1))[0],
        mouth=chance.choice(("smile", "laugh", "flat", "sad", "oh")),
        turned=chance.choice((-1, 0, 0, 1)),
        prop=prop,
        background=chance.choice(list(BACKGROUNDS)),
        backdrop=chance.choice(BACKDROPS),
    )
