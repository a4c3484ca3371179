"""Which device, which number format, which attention: chosen by what works here, said in the log."""

from __future__ import annotations

import logging
import os
import re
import time
import warnings
from typing import Any

import psutil
import torch

from trainer.config.sections.memory import Memory
from trainer.core.problem import Problem


def choose_device(wanted: str) -> torch.device:
    """`auto` takes CUDA, then Apple's MPS, then the CPU. A named device that is missing is a Problem."""
    if wanted == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = torch.device(wanted)
    there = {
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if not there[device.type]:
        raise Problem("device_missing", field="run.device", device=wanted)
    if device.type == "cuda" and device.index:
        torch.cuda.set_device(device)  # streams, graphs and libraries that ask for no device take this one
    return device


def choose_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """The base's number format. `auto`: bf16 on GPUs that have it, fp16 on older ones, fp32 on a CPU.

    A 16-bit format on a GPU is tried on a small product first (GTX 16xx cards give NaN in fp16) and given up for fp32.
    """
    names = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if wanted != "auto":
        return names[wanted]
    if device.type == "cuda":
        dtype = torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
        return dtype if _computes(device, dtype) else torch.float32
    return torch.float32


def _computes(device: torch.device, dtype: torch.dtype) -> bool:
    """Convolution, product and softmax in `dtype` agree with fp32 to 16-bit precision on this device."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 32, 16, 16, generator=generator).to(device)
    w = torch.randn(32, 32, 3, 3, generator=generator).to(device) / 17

    def work(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        y = torch.nn.functional.conv2d(x, w, padding=1).flatten(2)
        return torch.softmax(y @ y.transpose(1, 2) / 16, -1) @ y

    exact, rough = work(x, w), work(x.to(dtype), w.to(dtype)).float()
    return bool(torch.isfinite(rough).all()) and float((exact - rough).abs().mean()) < 0.05


def choose_attention(unet: Any, memory: Memory, device: torch.device, dtype: torch.dtype) -> tuple[str, str]:
    """Set the attention backend on `unet`. Returns its name and the reason, for the log.

    xformers has no CPU kernels and is built for one torch version; it is used only if a forward and backward pass
    on this device agrees with torch's own, and under `auto` only if it is also faster. On a CPU in 16 bits plain products
    can be faster than torch's own, whose 16-bit kernels sum in 32: measured, too.
    """
    if memory.attention == "auto" and device.type == "cpu" and dtype != torch.float32:
        speed = _plain_speed(dtype)
        if speed > 1.05:
            from diffusers.models.attention_processor import AttnProcessor

            unet.set_attn_processor(AttnProcessor())
            return "plain", f"{speed:.2f} times sdpa's speed"
        return "sdpa", f"plain products have {speed:.2f} times its speed"
    if memory.attention == "sdpa" or device.type != "cuda":
        return "sdpa", "asked" if memory.attention == "sdpa" else f"xformers has no kernels for {device.type}"
    speed, why = _xformers_speed(device, dtype)
    if speed is None:
        return "sdpa", why
    if memory.attention == "xformers" or speed > 1.05:
        unet.enable_xformers_memory_efficient_attention()
        return "xformers", f"{speed:.2f} times sdpa's speed"
    return "sdpa", f"xformers has {speed:.2f} times its speed"


def choose_layout(unet: Any, device: torch.device, dtype: torch.dtype) -> str:
    """Keep the UNet's convolutions channels-last on a GPU where a block of one, forward and backward, is quicker so. Returns
    what was chosen and why, for the log. On a CPU the group norms' backward pass becomes several times slower."""
    if device.type != "cuda":
        return f"contiguous: {device.type}"
    speed = _layout_speed(device, dtype)
    if speed <= 1.05:
        return f"contiguous: channels-last has {speed:.2f} times its speed"
    unet.to(memory_format=torch.channels_last)
    return f"channels-last: {speed:.2f} times as quick"


def _layout_speed(device: torch.device, dtype: torch.dtype) -> float:
    """Seconds of group norm, SiLU and convolution on contiguous channels to those channels-last."""
    seconds = {}
    for layout in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(4, 320, 64, 64, device=device, dtype=dtype).to(memory_format=layout).requires_grad_()
        w = (torch.randn(320, 320, 3, 3, device=device, dtype=dtype) / 54).to(memory_format=layout)

        def block(x: torch.Tensor = x, w: torch.Tensor = w) -> torch.Tensor:
            y = torch.nn.functional.silu(torch.nn.functional.group_norm(x, 32))
            return torch.nn.functional.conv2d(y, w, padding=1)

        seconds[layout] = _seconds(block)
    return seconds[torch.contiguous_format] / seconds[torch.channels_last]


def _plain_speed(dtype: torch.dtype) -> float:
    """Seconds of sdpa, forward and backward on this CPU, to those of products and softmax as diffusers writes them."""
    q, k, v = (torch.randn(16, 256, 32, dtype=dtype, requires_grad=True) for _ in range(3))

    def sdpa() -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(q[None], k[None], v[None])

    def plain() -> torch.Tensor:
        return torch.bmm((torch.bmm(q, k.transpose(1, 2)) * 32**-0.5).softmax(-1), v)

    return _seconds_here(sdpa) / _seconds_here(plain)


def _seconds_here(work: Any) -> float:
    """Seconds of forward and backward on the CPU, the best of five after a first."""
    times = []
    for _ in range(6):
        begun = time.perf_counter()
        work().sum().backward()
        times.append(time.perf_counter() - begun)
    return min(times[1:])


def _xformers_speed(device: torch.device, dtype: torch.dtype) -> tuple[float | None, str]:
    logging.getLogger("xformers").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from xformers.ops import memory_efficient_attention
    except (ImportError, OSError, RuntimeError) as error:
        return None, f"xformers does not load: {type(error).__name__}"
    q, k, v = (torch.randn(2, 1024, 8, 40, device=device, dtype=dtype, requires_grad=True) for _ in range(3))

    def sdpa() -> torch.Tensor:
        a, b, c = (x.transpose(1, 2) for x in (q, k, v))
        return torch.nn.functional.scaled_dot_product_attention(a, b, c).transpose(1, 2)

    def theirs() -> torch.Tensor:
        return memory_efficient_attention(q, k, v)

    try:
        wanted, got = sdpa(), theirs()
        got.float().sum().backward()
        if not torch.allclose(wanted.float(), got.float(), atol=3e-2):
            return None, "xformers gives other numbers than torch"
        return _seconds(sdpa) / _seconds(theirs), ""
    except (RuntimeError, NotImplementedError, ValueError) as error:
        return None, f"xformers does not run: {str(error).splitlines()[0][:80]}"


def _seconds(work: Any) -> float:
    """Milliseconds of forward and backward, the best of five."""
    best = float("inf")
    for _ in range(5):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        work().float().sum().backward()
        end.record()
        torch.cuda.synchronize()
        best = min(best, begin.elapsed_time(end))
    return best


def peak_memory(device: torch.device) -> int:
    """Peak bytes taken: torch's on CUDA, the process's resident set elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    return psutil.Process().memory_info().rss


def bytes_available(device: torch.device) -> int:
    """Bytes this process has or can have there: free ones and its own."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_allocated(device)
    return psutil.virtual_memory().available + psutil.Process().memory_info().rss


def is_oom(error: RuntimeError) -> bool:
    """Whether memory ran out: on a GPU, or on a CPU, where torch says so in words alone."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def bytes_requested(error: BaseException) -> int:
    """Bytes that were asked for and not given, as the error says; 0 where it does not."""
    units = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
    found = re.search(r"[Tt]ried to allocate ([\d.]+) (bytes|KiB|MiB|GiB)", str(error))
    return round(float(found[1]) * units[found[2]]) if found else 0


def silence_libraries() -> None:
    """Silence what frightens and means nothing, and telemetry; called once by each process that loads models."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.getLogger("xformers").setLevel(logging.CRITICAL)  # on a CPU it says at length that it has no kernels
    from diffusers.utils import logging as diffusers_log
    from transformers.utils import logging as transformers_log

    _no_datasets_library()
    diffusers_log.set_verbosity_error()
    transformers_log.set_verbosity_error()
    diffusers_log.disable_progress_bar()
    transformers_log.disable_progress_bar()


def _no_datasets_library() -> None:
    """Our folder of image sets is called `datasets`; transformers takes it for Hugging Face's library of that name."""
    import importlib.util

    import transformers.utils
    from transformers.utils import import_utils

    spec = importlib.util.find_spec("datasets")
    if spec is not None and spec.origin is None:  # a bare folder
        for module in (import_utils, transformers.utils):
            setattr(module, "is_datasets_available", lambda: False)  # noqa: B010
