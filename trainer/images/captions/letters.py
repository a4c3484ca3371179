"""How likely it is that a person wrote a text: its letters weighed by how common they are. Tells right readings of a file from
wrong ones (encodings.py).

The cost of a text is in bits, as in a code that gives short words to common letters: a wrong reading of the same bytes is full
of rare characters, of scripts that change inside a word and of capitals in the wrong places, and costs more. The tables hold
what captions are written with: the commonest characters of running text, and words for what is seen in pictures.
"""

from __future__ import annotations

import functools
import unicodedata
from typing import Literal

Script = Literal["simplified", "traditional", "japanese", "korean", "russian", "latin", "any"]

SCRIPTS: tuple[Script, ...] = ("simplified", "traditional", "japanese", "korean", "russian", "latin")
_KNOWN = frozenset(["latin", "half", "east", "hangul", "cyrillic"])

SIMPLIFIED = frozenset(
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成方多经么"
    "去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日军者意无力它与长把机十民第公此已工使情明性知全三又"
    "关点正业外将两高间由问很最重并物手应战向头文体政美相见被利什二等产或新己制身果加西斯月话合回特代内信表化老给世位次度门任常先海"
    "通教儿原东声提立及比员解水名真论处走义各入几口认条平系气题活尔更别打女变四神总何电数安少报才结反受目太量再感建务做接必场件计管"
    "期市直德资命山金指克许统区保至队形社便空决治展马科司五基眼书非则听白却界达光放强即像难且权思王象完设式色路记南品住告类求据程北"
    "边死张该交规万取拉格望觉术领共确传师观清今切院让识候带导争运笔猫狗红蓝绿黄黑紫灰粉橙棕银裙衬衫帽鞋袜包镜发辫短卷直刘海脸笑哭怒"
    "坐站躺跑跳飞树花草叶森林河湖云雨雪风夜晨夕阳星窗户桌椅床灯房屋街城桥车船火鸟鱼兔熊龙狐狸虎狮鹿羊牛猪衣服装饰手套围巾领带耳环项链"
    "戒指眉嘴唇鼻牙舌脖肩胸腰腿脚膝臂背影照片图画油彩素描铅插风格背景前景近远侧正仰俯视角半全像双单独孩男少妇爷奶穿戴拿抱握站立朝阴晴暖"
    "冷柔亮暗淡浓细节质量杰作动漫卡通写实水墨版刻线条轮廓透明玻璃木石沙滩田野园公室校教堂塔墙地板天花板只张条件位名座棵朵杯碗盘刀剑枪"
)
TRADITIONAL = frozenset(
    "的一是不了在人有我他這個們中來上大為和國地到以說時要就出會可也你對生能而子那得於著下自之年過發後作裡用道行所然家種事成方多經麼"
    "去法學如都同現當沒動面起看定天分還進好小部其些主樣理心她本前開但因只從想實日軍者意無力它與長把機十民第公此已工使情明性知全三又"
    "關點正業外將兩高間由問很最重並物手應戰向頭文體政美相見被利什二等產或新己制身果加西斯月話合回特代內信表化老給世位次度門任常先海"
    "通教兒原東聲提立及比員解水名真論處走義各入幾口認條平系氣題活爾更別打女變四神總何電數安少報才結反受目太量再感建務做接必場件計管"
    "期市直德資命山金指克許統區保至隊形社便空決治展馬科司五基眼書非則聽白卻界達光放強即像難且權思王象完設式色路記南品住告類求據程北"
    "邊死張該交規萬取拉格望覺術領共確傳師觀清今切院讓識候帶導爭運筆貓狗紅藍綠黃黑紫灰粉橙棕銀裙襯衫帽鞋襪包鏡髮辮短捲直瀏海臉笑哭怒"
    "坐站躺跑跳飛樹花草葉森林河湖雲雨雪風夜晨夕陽星窗戶桌椅床燈房屋街城橋車船火鳥魚兔熊龍狐狸虎獅鹿羊牛豬衣服裝飾手套圍巾領帶耳環項鍊"
    "戒指眉嘴唇鼻牙舌脖肩胸腰腿腳膝臂背影照片圖畫油彩素描鉛插風格背景前景近遠側正仰俯視角半全像雙單獨孩男少婦爺奶穿戴拿抱握站立朝陰晴暖"
    "冷柔亮暗淡濃細節質量傑作動漫卡通寫實水墨版刻線條輪廓透明玻璃木石沙灘田野園公室校教堂塔牆地板隻張條件位名座棵朵杯碗盤刀劍槍秋春夏冬楓"
)
JAPANESE = frozenset(
    "日一国会人年大十二本中長出三同時政事自行社見月分議後前民生連五発間対上部東者党地合市業内相方四定今回新場金員九入選立開手米力学問高"
    "代明実円関決子動京全目表戦経通外最言氏現理調体化田当八六約主題下首意法不来作性的要用制治度務強気小七成期公野協取都和統以機平総加山思"
    "家話世受区領多県続進正安設保改数記院女初北午指権心界支第産結百派点教報済書府活原先共得解名交資予川向際査勝面委告軍文反元重近千考判認"
    "画海参売利組知案道信策集在件団別物側任引使求所次水半品昨論計死官増係感特情投示変打男基私各始島直両朝革価式確村提運終挙果西勢減台広容"
    "必応演電歳住争談能無再位置企真流格有疑口過局少放税検藤町常校料沢裁状工建語球営空職証土与急止送援供可役構木割聞身費付施切由説転食比難"
    "猫犬狐狸兎熊鳥魚馬鹿牛豚虎竜龍花草木葉森林河湖雲雨雪風夜夕陽星月窓机椅子床灯部屋街城橋車船火赤青緑黄黒白紫灰桃橙茶銀色服制帽靴袋眼鏡"
    "髪短顔笑泣怒座立寝走跳飛着持抱握耳目鼻口唇歯舌首肩胸腰腿足膝腕背影写真絵画油彩素描鉛筆挿風景背景前遠近横正仰俯瞰視角半全身双単独少年"
    "女男娘婆爺穿傘剣刀槍盾鎧翼尾角牙爪眉涙汗頬指輪飾紐布絹革金属硝子石砂浜畑園公室校教塔壁天井冬春夏秋朝昼晩晴曇暖冷柔明暗淡濃細線輪郭透墨版"
)
KOREAN = frozenset(
    "이다의는에을를가고하은지기도로한사대자리시어나서인정과수일상아해그구전주장있라부원보공유동제성국여것게연들안오스으만진미비신선적무선우"
    "조경개면마관소방학용산생분중모세때위화실건당양물문민합계했남명반문행까와려속야말결년금내통식회요력단교재강현입발외작불음치감거심군거처청"
    "출최호업달더운투영포후표직배본역바경크두따라타드트파르터카하호프레디노메베네테키토코티피브페스즈니즐델랑란랗람렇렀럽렵릴린림릿링만많맑망맞"
    "머먹멀모자목몸못바밝밤밖방배백버벗벚벽별볼봄부북분붉불붓비빛빨뽀산살색생서선섬성소속손솔송숲쉬쉽스슬시신실싸싹쓰씨아안앉않알앞얀얇양얼엄업엇"
    "없었에여역연열옆예오올옷와완왕외요용우운울웃원위유육은을음의이인일입잎자작잔잠장재저적전점정제조족졸종좋주줄중지진집짓짙짧찬창채책처천철청체초"
    "추춤치친칠캐커컴코크키타탁탑태터털테토통투튀특티파판팔패팬퍼펜편평포폭표푸풀풍프피필하학한할함합해햇행향허헌현형호혼홍화환활황회후흐흑흰희히고"
    "양강토끼곰새물개늑대여우호랑말소녀년자람머카락빨파노초보라검회갈분홍황금은치마셔츠모자신발안경눈코입귀얼굴웃울앉서달리뛰나무꽃잎숲강하늘구름"
)
RUSSIAN = dict(zip("оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфъё", (
    3.2, 3.5, 3.6, 3.8, 3.9, 4.0, 4.2, 4.4, 4.5, 4.5, 4.8, 5.0, 5.1, 5.2, 5.3, 5.6, 5.7, 5.8, 5.9, 5.9, 6.0, 6.1, 6.4, 6.7,
    6.8, 7.1, 7.3, 7.7, 8.1, 8.2, 8.6, 11.4, 8.5), strict=True))  # fmt: skip
"""Minus the binary logarithm of the share of each letter in Russian text."""
LATIN = frozenset("àâäáãåæçéèêëíìîïñóòôöõøœúùûüýÿßšž")
LATIN_MARKS = frozenset("‘’“”„‚«»–—…•°·€£©®™§¡¿½¼¾²³×º´\xa0")
_MARKS = frozenset("，。、！？：；“”‘’（）《》「」『』【】〈〉—…·・ー〜～々〇　")
_NUMBERS = frozenset("¹²³¼½¾")
_HALF_KANA = range(0xFF61, 0xFFA0)
RARE, REPLACED, CONTROL, CHANGE = 24.0, 24.0, 25.0, 9.0
"""Costs: a character hardly anybody writes, a byte that could not be read, a control character, and a word that goes over from
the letters of one script to those of another."""


def cost(text: str, script: Script) -> float:
    """Bits for `text` as the writing of `script`; "any" is the one it costs least in, and scripts that have no table."""
    if script == "any":
        return 3.0 + min(_cost(text, script_, True) for script_ in SCRIPTS)
    return _cost(text, script, False)


def _cost(text: str, script: Script, others: bool) -> float:
    total, before = 0.0, " "
    for letter in text:
        if letter < "\x80":
            total += _ascii(letter)
        elif others and _writing(letter) not in _KNOWN:
            total += min(_letter(letter, script), _of_no_table(letter))
        else:
            total += _letter(letter, script)
        total += _joint(before, letter)
        before = letter
    return total


def strange(text: str) -> bool:
    """Whether a reading holds what nobody types: bytes that could not be read, control and private characters."""
    return any(letter == "\ufffd" or unicodedata.category(letter) in ("Cc", "Co", "Cn") for letter in text if letter > "\x7f")


@functools.lru_cache(256)
def _ascii(letter: str) -> float:
    if letter.islower():
        return 4.5
    if letter.isupper():
        return 7.0
    if letter.isdigit():
        return 6.0
    return {" ": 2.5, ",": 4.0, ".": 6.0, "\n": 6.0, "\r": 6.0, "\t": 9.0}.get(letter, 8.0 if letter.isprintable() else CONTROL)


@functools.lru_cache(65536)
def _letter(letter: str, script: Script) -> float:
    if letter == "\ufffd":
        return REPLACED
    if letter == "\ufeff":
        return 0.0
    if unicodedata.category(letter) in ("Cc", "Co", "Cn", "Cs"):
        return CONTROL
    if script == "latin":
        return _latin(letter)
    if script == "russian":
        return _russian(letter)
    return _east_asian(letter, script)


@functools.lru_cache(65536)
def _of_no_table(letter: str) -> float:
    """Writing no table is for: its letters, or pictures such as emoji."""
    if unicodedata.category(letter) in ("Cc", "Co", "Cn", "Cs"):
        return CONTROL
    return {"L": 9.0, "M": 9.0, "S": 14.0, "P": 13.0, "N": 13.0}.get(unicodedata.category(letter)[0], 16.0)


def _latin(letter: str) -> float:
    if letter.lower() in LATIN:
        return 8.0 if letter.islower() else 11.0
    if letter in LATIN_MARKS:
        return 10.0
    return 10.0 if letter.isalpha() and "LATIN" in unicodedata.name(letter, "") else 16.0


def _russian(letter: str) -> float:
    small = letter.lower()
    if small in RUSSIAN:
        return RUSSIAN[small] + (0.5 if letter == small else 3.0)
    if small in "іїєґўјљњћџђ":
        return 10.0 if letter == small else 13.0
    return 12.0 if letter in "«»—–№…“”„°\xa0" else 16.0


def _east_asian(letter: str, script: Script) -> float:
    if letter in _MARKS:
        return 8.0
    code = ord(letter)
    if code in _HALF_KANA:
        return 7.0 if script == "japanese" else RARE
    if 0x3041 <= code <= 0x30FE:
        return 7.5 if script == "japanese" else 15.0
    if 0xFF01 <= code <= 0xFF5E:
        return 12.0
    if 0xAC00 <= code <= 0xD7A3:
        return RARE if script != "korean" else 8.5 if letter in KOREAN else 13.9 if _in(letter, "euc_kr") else RARE
    if 0x3400 <= code <= 0x9FFF:
        return _ideograph(letter, script)
    return 14.0 if _in(letter, _CODES[script]) and unicodedata.category(letter)[0] in "SPN" else RARE


_CODES = {"simplified": "gb2312", "traditional": "big5", "japanese": "euc_jp", "korean": "euc_kr"}
_TABLES = {"simplified": SIMPLIFIED, "traditional": TRADITIONAL, "japanese": JAPANESE}
_LEVELS = {"simplified": (0xB0, 0xD7, 14.1), "traditional": (0xA4, 0xC6, 14.9), "japanese": (0xB0, 0xCF, 14.9)}
"""The rows of the standard that hold its common characters, sorted apart from the rare ones, and what one of those costs."""


def _ideograph(letter: str, script: Script) -> float:
    if script == "korean":
        return 20.0 if _in(letter, "euc_kr") else RARE
    if letter in _TABLES[script]:
        return 9.3
    try:
        lead = letter.encode(_CODES[script])[0]
    except UnicodeEncodeError:
        return RARE
    first, last, common = _LEVELS[script]
    return common if first <= lead <= last else 18.5


def _in(letter: str, codec: str) -> bool:
    try:
        return len(letter.encode(codec)) <= 2
    except UnicodeEncodeError:
        return False


def _joint(before: str, letter: str) -> float:
    """What it costs that two characters follow each other."""
    if before < "\x80" and letter < "\x80":
        return CHANGE if before.islower() and letter.isupper() else 0.0
    script, following = _writing(before), _writing(letter)
    if following == "half" and script != "half":
        return CHANGE if script else 4.0  # half-width kana come in runs
    if not script or not following:
        return CHANGE if following and before in _NUMBERS else 0.0
    if script != following:
        return CHANGE
    total = CHANGE if before.islower() and letter.isupper() else 0.0
    if script == "latin" and before > "\x7f" and letter > "\x7f":
        total += 6.0  # two accents in a row
    return total


@functools.lru_cache(65536)
def _writing(letter: str) -> str:
    """The script of a letter; empty for anything else."""
    if letter < "\x80":
        return "latin" if letter.isalpha() else ""
    if ord(letter) in _HALF_KANA:
        return "half"
    if not letter.isalpha():
        return ""
    name = unicodedata.name(letter, "").split(" ")[0]
    if name in ("HIRAGANA", "KATAKANA", "CJK", "HANGUL", "KATAKANA-HIRAGANA"):
        return "hangul" if name == "HANGUL" else "east"
    return name.lower()
