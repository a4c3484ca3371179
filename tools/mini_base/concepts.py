"""Which things the base learns, and by which names: everyday things with one clear look, a few hundred of them.

`data.py` calls `choose`; the names come from two MIT-licensed word lists, and the choices made here are editorial.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from .words import listed

GROUPS = ("Animals & Nature", "Food & Drink", "Travel & Places", "Activities", "Objects", "Smileys & Emotion")

# Left out: flags, letters and signs, clock faces, people, religion, brands of money, office paper, pictures that are
# mostly text, and things that look like another thing in the list so closely that nobody could tell a drawing apart.
_LEFT_OUT = re.compile(
    r"""oclock|o-clock|-thirty|globe-showing|world-map|map-of|japanese-(post|dolls|symbol)|love-hotel|convenience-store|
    department-store|post-office|wedding|kaaba|hindu|synagogue|mosque|church|shinto|statue|tokyo-tower|hot-springs|
    barber|oncoming|trolleybus|minibus|mountain-railway|tram-car|railway-car|railway-track|light-rail|metro$|station$|
    motorway|stop-sign|construction|traffic-light|bus-stop|-departure|-arrival|suspension|aerial|cableway|
    hourglass-not|timer-clock|quarter-moon|gibbous|new-moon|waning-crescent|waxing-crescent|full-moon-face|
    sun-behind|cloud-with-snow|cloud-with-rain|cyclone|umbrella-with|closed-umbrella|snowman-without|
    smiling-face-with-horns|tanabata|pine-decoration|moon-viewing|red-envelope|reminder|admission|medal$|
    military|badminton|hockey|lacrosse|goal-net|flag|suit$|mahjong|flower-playing|joker|framed|knot|
    lab-coat|safety-vest|sari|briefs|bikini|swimsuit|woman|camping|cricket-game|sake$|stadium|mans-|clutch|thong|prayer|speaker|loudspeaker|
    with-slash|score|control|level|arrow|pager|fax|low-battery|trackball|dvd|computer-disk|film-|videocassette|
    tilted-right|diya|notebook|green-book|blue-book|orange-book|ledger|page|scroll|rolled|bookmark|label|banknote|
    money-with|credit|receipt|chart|envelope|e-mail|tray|mailbox|postbox|ballot|nib|fountain-pen|^pen$|memo|folder|
    dividers|calendar|notepad|card|clipboard|round-pushpin|linked|ruler|cabinet|unlocked|locked-with|hammer-and|
    old-key|pistol|bomb|white-cane|link|chain|petri|dna|syringe|blood|pill|bandage|crutch|x-ray|elevator|toilet|
    plunger|mouse-trap|razor|lotion|safety-pin|roll-of|soap|bubbles|cigarette|coffin|headstone|urn|amulet|hamsa|moai|
    placard|person|people|speech|thought|anger|zzz|hundred|collision|dizzy$|sweat-droplets|dashing|hole|kiss-mark|
    fight|monkey$(?<=evil-monkey)|heart-(with|on|exc|dec)|mending|growing|beating|revolving|two-hearts|sparkling-heart|
    love-letter|light-blue-heart|brown-heart|grey-heart|orange-heart|^guide-dog|service-dog|black-cat|water-buffalo|
    ^ox$|two-hump|front-facing|rat$|badger|pig-nose|paw-prints|cockroach|mosquito|^fly$|worm|microbe|rosette|
    wilted|leaf-fluttering|shamrock|herb|white-flower|sheaf|brown-mushroom|root-vegetable|stuffed|flatbread|shallow|
    pot-of-food|fondue|canned|rice-cracker|oden|fish-cake|moon-cake|custard|teacup-without|tumbler|pouring|
    beverage-box|mate$|amphora|clinking-glasses|tamale|bento|falafel|takeout|landslide|derelict|
    small-airplane|motor-boat|passenger-ship|ferry$|motorized|manual-wheel|seat$|bellhop|night-with|cityscape|foggy|
    bridge-at|sunrise|sunset|milky|houses|house-with|building-construction|national-park|desert-island|beach-with|
    playground|water-wave|fog$|wind-face|performing|wind-chime|carp|sparkler|confetti|skis|sled|curling|running-shirt|
    martial|slot-machine|nesting|thread|sewing|kimono|purse|handbag|shopping-bags|hair-pick|ballet|flat-shoe|tear-off|
    with-flash|video-camera|desktop|optical|floppy|card-file|balance|carpentry|clamp|nut-and|hook$|alembic|stethoscope|
    couch|shower|wastebasket|funeral|yen|euro|pound|incoming|outbox|inbox|package$|identification|softball|
    japanese-castle|bank$|hotel$|office-building|school$|hospital|factory|brick|wood$|rock$|oil-drum|^wheel$|
    articulated|sport-utility|speedboat|bullet-train|high-speed|monorail|^train$|tram$|auto-rickshaw""",
    re.VERBOSE,
)

# Faces look alike; these have a look of their own.
_FACES = frozenset(
    listed("""grinning-face face-with-tears-of-joy winking-face smiling-face-with-halo smiling-face-with-heart-eyes
    smiling-face-with-sunglasses star-struck zany-face face-with-tongue money-mouth-face thinking-face zipper-mouth-face
    neutral-face sleeping-face face-with-medical-mask nauseated-face hot-face cold-face exploding-head cowboy-hat-face
    partying-face nerd-face face-with-monocle astonished-face crying-face angry-face enraged-face angry-face-with-horns
    skull skull-and-crossbones pile-of-poo clown-face ogre goblin ghost alien alien-monster robot red-heart pink-heart
    yellow-heart green-heart blue-heart purple-heart black-heart white-heart broken-heart""")
)

# What people call these things: the first name is the one captions use most. Otherwise the list's own name holds.
_NAMES: dict[str, tuple[str, ...]] = {
    "american-football": ("american football",),
    "artist-palette": ("palette", "artist palette"),
    "automobile": ("car", "automobile"),
    "baguette-bread": ("baguette",),
    "beer-mug": ("beer mug", "beer"),
    "billed-cap": ("baseball cap", "cap"),
    "bowling": ("bowling ball and pins", "bowling"),
    "cheese-wedge": ("cheese", "cheese wedge"),
    "circus-tent": ("circus tent", "circus"),
    "classical-building": ("temple", "classical building"),
    "closed-book": ("red book", "closed book", "book"),
    "cooking": ("fried egg", "frying pan"),
    "crescent-moon": ("crescent moon", "moon"),
    "crying-face": ("crying face", "sad face"),
    "cut-of-meat": ("steak",),
    "deciduous-tree": ("tree", "leafy tree"),
    "delivery-truck": ("truck", "delivery truck"),
    "doughnut": ("doughnut", "donut"),
    "droplet": ("water drop", "droplet"),
    "ear-of-corn": ("corn", "ear of corn"),
    "evergreen-tree": ("pine tree", "fir tree"),
    "exploding-head": ("exploding head",),
    "fire-engine": ("fire engine", "fire truck"),
    "flying-disc": ("frisbee",),
    "flying-saucer": ("flying saucer", "ufo"),
    "french-fries": ("french fries", "fries"),
    "game-die": ("dice", "game die"),
    "gem-stone": ("diamond", "gem stone", "gem"),
    "globe-with-meridians": ("globe",),
    "grinning-face": ("smiley", "grinning face", "happy face"),
    "hamburger": ("hamburger", "burger"),
    "headphone": ("headphones", "headphone"),
    "high-voltage": ("lightning bolt", "lightning"),
    "honeybee": ("bee", "honeybee"),
    "hot-beverage": ("cup of coffee", "hot drink", "cup of tea"),
    "hot-pepper": ("chili pepper", "hot pepper"),
    "hourglass-done": ("hourglass",),
    "jack-o-lantern": ("halloween pumpkin", "jack o lantern", "pumpkin"),
    "lady-beetle": ("ladybug", "ladybird"),
    "locked": ("padlock", "lock"),
    "locomotive": ("steam train", "locomotive", "steam engine"),
    "luggage": ("suitcase", "luggage"),
    "magnifying-glass-tilted-left": ("magnifying glass",),
    "mobile-phone": ("smartphone", "mobile phone"),
    "motor-scooter": ("scooter", "motor scooter"),
    "musical-keyboard": ("piano keyboard", "piano"),
    "necktie": ("tie", "necktie"),
    "pile-of-poo": ("pile of poo", "poop"),
    "ping-pong": ("ping pong paddle", "table tennis paddle"),
    "pool-8-ball": ("billiard ball",),
    "potted-plant": ("potted plant", "house plant"),
    "racing-car": ("race car", "racing car"),
    "red-apple": ("red apple", "apple"),
    "red-heart": ("red heart", "heart"),
    "rescue-workers-helmet": ("helmet",),
    "ring-buoy": ("lifebuoy", "ring buoy"),
    "ringed-planet": ("ringed planet", "saturn", "planet"),
    "running-shoe": ("sneaker", "running shoe"),
    "sauropod": ("long neck dinosaur", "sauropod"),
    "soccer-ball": ("soccer ball", "football"),
    "soft-ice-cream": ("ice cream cone", "soft ice cream"),
    "spouting-whale": ("spouting whale",),
    "star-struck": ("star struck face",),
    "t-rex": ("tyrannosaurus", "dinosaur", "t rex"),
    "teddy-bear": ("teddy bear", "teddy"),
    "tennis": ("tennis ball", "tennis racket"),
    "trophy": ("trophy", "prize cup"),
    "umbrella-on-ground": ("beach umbrella",),
    "video-game": ("game controller", "gamepad"),
    "wine-glass": ("wine glass", "glass of wine"),
    "wrapped-gift": ("gift", "present", "wrapped gift"),
}

# Words that say how a picture looks, not what it shows: never a name of a thing.
_NOT_NAMES = frozenset(
    listed("""flat cartoon glossy poster retro inkstamp style background white black gray grey red orange yellow green
    blue purple pink brown color icon symbol emoji zibbo mascot animal food face pet drink plant sport game weather tool
    fruit vegetable dessert vehicle travel place music clothing object nature happy sad open cute good bad fun""")
)


# What a small model learns first, when there is no time for everything: things nobody can mistake for each other.
FAVOURITES = tuple(
    listed("""red-apple fox cat owl penguin sunflower rocket automobile castle house red-heart robot cactus mushroom hamburger
    fish butterfly ghost strawberry snowman guitar airplane crown banana pizza turtle rose star bear dog
    evergreen-tree cupcake sailboat key umbrella balloon carrot elephant lion frog watermelon pineapple grapes lemon
    tulip palm-tree snail spouting-whale crab octopus tent bus helicopter soccer-ball wrapped-gift jack-o-lantern
    light-bulb crescent-moon skull alien rabbit horse cow pig zebra giraffe panda koala hamster monkey tiger deer
    ewe camel hedgehog bat unicorn dragon sauropod t-rex rooster baby-chick bird duck swan flamingo peacock parrot
    crocodile snake dolphin shark tropical-fish spiral-shell honeybee lady-beetle spider four-leaf-clover maple-leaf
    potted-plant deciduous-tree pear peach cherries kiwi-fruit tomato avocado ear-of-corn hot-pepper broccoli bread
    croissant cheese-wedge meat-on-bone french-fries hot-dog taco cooking popcorn soft-ice-cream doughnut cookie
    birthday-cake chocolate-bar candy lollipop honey-pot teapot wine-glass beer-mug hot-beverage
    snow-capped-mountain volcano ferris-wheel locomotive fire-engine tractor motorcycle bicycle skateboard anchor
    ship flying-saucer luggage hourglass-done alarm-clock sun ringed-planet cloud rainbow high-voltage snowflake
    fire droplet christmas-tree trophy basketball pool-8-ball video-game game-die teddy-bear artist-palette glasses
    necktie t-shirt jeans dress backpack running-shoe high-heeled-shoe top-hat graduation-cap gem-stone megaphone
    bell musical-note headphone trumpet violin drum laptop camera television magnifying-glass-tilted-left candle
    closed-book pencil scissors hammer axe shield magnet microscope door bed chair shopping-cart grinning-face
    smiling-face-with-sunglasses blue-heart""")
)

# What icon sets call things that have another name here.
_ICON_NAMES: dict[str, tuple[str, ...]] = {
    "airplane": ("plane",),
    "birthday-cake": ("cake",),
    "ewe": ("sheep",),
    "flying-saucer": ("alien-ship",),
    "four-leaf-clover": ("clover",),
    "high-voltage": ("bolt",),
    "hot-beverage": ("coffee",),
    "hot-dog": ("hotdog",),
    "hot-pepper": ("chili", "pepper-hot"),
    "magnifying-glass-tilted-left": ("search", "magnify"),
    "musical-note": ("music-note", "music"),
    "running-shoe": ("shoe", "shoe-sneaker"),
    "snow-capped-mountain": ("mountain",),
    "soft-ice-cream": ("ice-cream",),
    "spouting-whale": ("whale",),
    "t-shirt": ("tshirt", "shirt"),
    "television": ("tv",),
    "top-hat": ("hat",),
    "video-game": ("gamepad", "device-gamepad", "game-controller"),
}


@dataclass(frozen=True)
class Concept:
    """A thing: its slug, and the names a prompt may use for it, the plainest first."""

    slug: str
    group: str
    names: tuple[str, ...] = field(default_factory=tuple)

    @property
    def name(self) -> str:
        """The name captions use most."""
        return self.names[0]

    @property
    def may_flip(self) -> bool:
        """False where the name says left or right."""
        return not re.search(r"left|right", self.slug)


def first_few(concepts: list[Concept], many: int | None) -> list[Concept]:
    """The favourites first, then the rest; all of them without a number."""
    if many is None:
        return concepts
    rank = {slug: place for place, slug in enumerate(FAVOURITES)}
    return sorted(concepts, key=lambda c: rank.get(c.slug, len(rank)))[:many]


def icon_names(slug: str) -> list[str]:
    """What an icon set may call a thing: its plain names, the slug, other sets' words. Keywords are too loose for that:
    a church has a bell."""
    return list(dict.fromkeys([*map(slug_of, _NAMES.get(slug, ())), slug, *_ICON_NAMES.get(slug, ())]))


def slug_of(text: str) -> str:
    """`T-Rex` -> `t-rex`, `Piñata` -> `pinata`: the same spelling for every list and every icon set."""
    plain = unicodedata.normalize("NFKD", text.lower().replace("’", "").replace("'", ""))
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def choose(by_emoji: dict[str, Any], keyword_rows: list[dict[str, Any]]) -> list[Concept]:
    """The things to learn, in the order of the Unicode list."""
    keywords = {row["emoji"].replace("\ufe0f", ""): row.get("tags", []) for row in keyword_rows if "emoji" in row}
    kept: list[tuple[str, str, list[str]]] = []
    for emoji, row in by_emoji.items():
        slug = slug_of(row["name"])
        if row["group"] not in GROUPS:
            continue
        if slug not in _FACES and (row["group"] == "Smileys & Emotion" or _LEFT_OUT.search(slug)):
            continue
        kept.append((slug, row["group"], keywords.get(emoji.replace("\ufe0f", ""), [])))
    how_often = Counter(tag for _, _, tags in kept for tag in set(tags))
    own_names = {slug.replace("-", " ") for slug, _, _ in kept} | {n for names in _NAMES.values() for n in names}
    concepts = []
    for slug, group, tags in kept:
        names = _NAMES.get(slug, (slug.replace("-", " "),))
        extra = [
            tag
            for tag in tags
            if group != "Smileys & Emotion" and how_often[tag] == 1 and re.fullmatch(r"[a-z]{4,}( [a-z]{3,})?", tag)
            and tag not in own_names and not set(tag.split()) & _NOT_NAMES
        ]  # fmt: skip
        concepts.append(Concept(slug, group, (*names, *sorted(extra)[:3])))
    return concepts
