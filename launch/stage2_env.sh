#!/usr/bin/env bash
# Makes the environment of stage 2: PyTorch, mmdet, and mmcv with compiled operators.
#
#   launch/stage2_env.sh                             # operators for CPUs
#   CUDA=1 launch/stage2_env.sh                      # operators for the NVIDIA GPUs here
#   CUDA=cu130 TORCH_INDEX=URL launch/stage2_env.sh  # with this build of PyTorch
#
# Assumes: PYTHON (python3) is 3.11 or newer; there is a C++ compiler, and with CUDA the
# nvcc of PyTorch's CUDA version. Where no GPU can be seen, TORCH_CUDA_ARCH_LIST says for
# which to compile. TORCH_INDEX is where pip looks for PyTorch alone: on Linux, PyPI has
# a CUDA build, which runs on CPUs too but is large; an index of CPU builds saves that.
#
# STAGE2_VENV (.venv-stage2) is the place. Run again, it does nothing, or makes again
# what is broken or has other versions.
# The wheel of mmcv is built once for each Python, PyTorch and kind of device (MAX_JOBS
# compilers at a time) and kept in ${XDG_CACHE_HOME:-~/.cache}/exits_jax/wheels.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-python3}
venv=${STAGE2_VENV:-.venv-stage2}
cuda=${CUDA:-0}
requirements=launch/stage2_requirements.txt
mmcv=2.1.0 # the latest that mmdet 3.3.0 takes
cache=${XDG_CACHE_HOME:-$HOME/.cache}/exits_jax/wheels
bin=$venv/bin/python
pip=("$bin" -m pip --disable-pip-version-check)
quiet=(--quiet --quiet) # errors alone

say() { echo "stage2-env: $*"; }
refuse() { say "$*" >&2 && exit 2; }
run() { if [[ -n "${DRY_RUN:-}" ]]; then printf '%q ' "$@" && echo; else "$@"; fi; }

step() { # WHAT COMMAND...
  local what=$1 began=$SECONDS
  shift
  run "$@"
  [[ -n "${DRY_RUN:-}" ]] || say "$what, $((SECONDS - began)) s"
}

case $cuda in
  0) ops=cpu ;;
  1 | cu[0-9]*) ops=cuda ;;
  *) refuse "CUDA=$cuda: expected 0, 1 or a version as cu130" ;;
esac

# What is to be there. Only its sum is stored, as an index can hold a password.
wish=$(printf '%s\n' "$mmcv" "$cuda" "${TORCH_INDEX:-}" | cat - "$requirements" | cksum)
check="
import mmcv.ops, mmdet.models, pkg_resources, torch
boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 8], [20, 20, 29, 29]])
scores = torch.tensor([0.9, 0.8, 0.7])
devices = ['cpu'] + ['cuda'] * ('$ops' == 'cuda' and torch.cuda.is_available())
for device in devices:
    kept = mmcv.ops.nms(boxes.to(device), scores.to(device), 0.5)[1].tolist()
    assert kept == [0, 2], f'nms on {device} keeps {kept}'
if '$ops' == 'cuda':
    assert mmcv.ops.get_compiling_cuda_version() != 'not available'
"

works() { # Prints why not.
  local said
  if said=$("$bin" -W ignore -c "$check" 2>&1); then return; fi
  echo "$said" >&2
  [[ "$said" != *libGL.so* ]] ||
    say "OpenCV lacks a library of the system: apt-get install libgl1 libglib2.0-0" >&2
  return 1
}

if [[ -z "${DRY_RUN:-}" && "$(cat "$venv/.complete" 2>/dev/null)" == "$wish" ]]; then
  if works 2>/dev/null; then
    say "$venv is complete"
    exit
  fi
  say "$venv does not work any more and is made again"
fi

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  refuse "Python 3.11 or newer is needed: PYTHON=... ($python is older or missing)"
if [[ -n "$(ls -A "$venv" 2>/dev/null)" && ! -f "$venv/pyvenv.cfg" ]]; then
  refuse "STAGE2_VENV=$venv is there and no virtual environment: choose another place"
fi

step "$venv made" "$python" -m venv --clear "$venv"
step "PyTorch installed" "${pip[@]}" install "${quiet[@]}" \
  ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$(grep '^torch==' "$requirements")"
step "mmdet installed" "${pip[@]}" install "${quiet[@]}" --requirement "$requirements"

if [[ -n "${DRY_RUN:-}" ]]; then
  key="PYTHON-TORCH-mmcv-$mmcv-$ops-$(uname -m)" # known when PyTorch is there
else
  torch=$("$bin" -c 'import torch; print(torch.__version__)')
  built=$("$bin" -c 'import torch; print("cu" + (torch.version.cuda or ""))')
  tag=$("$bin" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
  key="$tag-torch-$torch-mmcv-$mmcv-$ops-$(uname -m)"
fi
if [[ "$ops" == cuda && -z "${DRY_RUN:-}" ]]; then
  [[ "$built" != cu && ("$cuda" == 1 || "cu${built//[!0-9]/}" == "$cuda") ]] ||
    refuse "CUDA=$cuda, but PyTorch $torch is another build: TORCH_INDEX=URL of an index"
  seen="import torch; n = torch.cuda.device_count(); print(*sorted({
    '%d.%d' % torch.cuda.get_device_capability(i) for i in range(n)}), sep=';')"
  TORCH_CUDA_ARCH_LIST=${TORCH_CUDA_ARCH_LIST:-$("$bin" -c "$seen")}
  export TORCH_CUDA_ARCH_LIST
  [[ -n "$TORCH_CUDA_ARCH_LIST" ]] ||
    refuse "no GPU can be seen: say for which to compile, TORCH_CUDA_ARCH_LIST='8.0;9.0'"
  key+="-${TORCH_CUDA_ARCH_LIST//[!0-9.PTX+]/-}"
fi

cached_wheel() { # Prints the wheel, if there is a whole one.
  local wheel
  for wheel in "$cache/$key"/mmcv-*.whl; do
    [[ -f "$wheel" ]] && "$bin" -m zipfile --test "$wheel" >/dev/null 2>&1 &&
      echo "$wheel" && return
  done
  return 1
}

build_wheel() { # In a folder that gets its name when all is well.
  local compiler=${CXX:-c++} work
  command -v "$compiler" >/dev/null || refuse "no C++ compiler $compiler (CXX)"
  if [[ "$ops" == cuda && ! -x "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" ]]; then
    command -v nvcc >/dev/null || refuse "no nvcc: install the CUDA toolkit, set CUDA_HOME"
  fi
  work=$cache/.building.$$
  # shellcheck disable=SC2064 # the folder as it is now
  trap "rm -rf '$work'" EXIT
  run rm -rf "$cache/$key"
  # No cache of pip's, which would give a wheel for another PyTorch; no isolation, as the
  # PyTorch here is the one to compile against. Without debug symbols half the time is
  # enough. A GPU that can be seen would be compiled for, whatever was asked.
  local flags=(MMCV_WITH_OPS=1 "MAX_JOBS=${MAX_JOBS:-$(nproc)}" "CFLAGS=${CFLAGS:-} -g0")
  if [[ "$ops" == cuda ]]; then flags+=(FORCE_CUDA=1)
  else flags+=(FORCE_CUDA=0 CUDA_VISIBLE_DEVICES=); fi
  run env "${flags[@]}" "${pip[@]}" wheel "${quiet[@]}" --no-cache-dir --no-deps \
    --no-build-isolation --wheel-dir "$work" "mmcv==$mmcv"
  if [[ -z "${DRY_RUN:-}" && -z "$(compgen -G "$work/mmcv-*-$tag-*.whl")" ]]; then
    refuse "mmcv was built without its operators: $(ls "$work")"
  fi
  run mv -T "$work" "$cache/$key"
}

if [[ -z "${DRY_RUN:-}" ]] && wheel=$(cached_wheel); then
  say "mmcv: cached wheel of $cache/$key"
else
  [[ -n "${DRY_RUN:-}" ]] || say "mmcv: compiling, many minutes on few cores ..."
  began=$SECONDS
  build_wheel
  [[ -n "${DRY_RUN:-}" ]] || say "mmcv compiled, $((SECONDS - began)) s"
  wheel=$(cached_wheel || echo "$cache/$key/mmcv-$mmcv-*.whl")
fi
step "mmcv installed" "${pip[@]}" install "${quiet[@]}" --no-deps "$wheel"
step "packages fit together" "${pip[@]}" check
[[ -z "${DRY_RUN:-}" ]] || exit 0
works || refuse "$venv does not work; if the wheel is at fault, remove $cache/$key"
echo "$wish" >"$venv/.complete"
say "$venv is complete, $SECONDS s in all"
