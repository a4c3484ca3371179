#!/usr/bin/env bash
# One sitting of the recipe on a bare GPU machine with Python, torch, transformers, tokenizers, numpy, pillow, safetensors.
# usage: tools/mini_base/gpu.sh [MINUTES=9] [HAND_BACK=outputs/carry] [WHEELS=outputs/wheels] [further options of `sitting`]
#   WORK (default outputs/mini_base) must hold pack.safetensors and tokenizer/, made before with `data` and `tokenizer`.
#   WHEELS holds what the machine lacks: diffusers==0.42.1, importlib_metadata (see tools/mini_base/README.md).
#   FROM (default outputs/carry) may hold carry.000 … of an earlier sitting on another machine.
set -euo pipefail
cd "$(dirname "$0")/../.."
minutes=${1:-9}; hand_back=${2:-outputs/carry}; wheels=${3:-outputs/wheels}; shift $(( $# > 3 ? 3 : $# ))
work=${WORK:-outputs/mini_base}; from=${FROM:-outputs/carry}
export PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 TORCHINDUCTOR_CACHE_DIR="$PWD/$work/inductor"
if compgen -G "$wheels/*.whl" > /dev/null; then
  site=$(mktemp -d)
  python3 -m pip install -q --no-index --no-deps --no-cache-dir --target "$site" "$wheels"/*.whl
  export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
fi
sit() { python3 -m tools.mini_base sitting --work "$work" --out "$from" --hand-back "$hand_back" --sitting "$@"; }
started=$SECONDS
# A machine without a C compiler cannot compile the networks: then once more without, in the time that is left.
sit "$minutes" "${@}" || sit "$(( minutes - (SECONDS - started) / 60 ))" --no-compile "${@}"
