#!/usr/bin/env bash
# Set everything up in .venv and run: the embedded example, or with --tests the checks.
# Needs Debian or Ubuntu with Python 3.11 or later. An environment that exists is used again.
set -euo pipefail
cd "$(dirname "$0")"

python="${PYTHON:-python3}"
if [ ! -x .venv/bin/python ]; then
  if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    echo "Python's venv is missing: installing it (python3-venv)"
    sudo=""; [ "$(id -u)" = 0 ] || sudo="sudo"
    $sudo apt-get update -qq && $sudo apt-get install -y -qq python3 python3-venv
  fi
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    { echo "Python 3.11 or later is needed, found $("$python" --version); set PYTHON=/path/to/python3.11"; exit 2; }
  echo "making .venv"
  "$python" -m venv .venv
fi
# Without an NVIDIA driver the CPU build of PyTorch is enough, and several GB smaller.
if ! .venv/bin/python -c 'import torch' 2>/dev/null; then
  echo "installing PyTorch (about 200 MB; once)"
  cpu_index="https://download.pytorch.org/whl/cpu"
  if command -v nvidia-smi >/dev/null ||
    ! .venv/bin/python -m pip install -q --retries 0 --timeout 20 --index-url "$cpu_index" torch==2.13.0 2>/dev/null; then
    .venv/bin/python -m pip install -q torch==2.13.0
  fi
fi

if [ "${1:-}" = "--tests" ]; then
  echo "installing Specula and what its tests need"
  .venv/bin/python -m pip install -q -e ".[test]"
  .venv/bin/ruff check .
  .venv/bin/ruff format --check .
  .venv/bin/mypy .
  .venv/bin/python -m pytest "${@:2}"
else
  echo "installing Specula and what it needs"
  .venv/bin/python -m pip install -q -e .
  .venv/bin/python run.py --config configs/phantom.txt --train_binocular "$@"
fi
