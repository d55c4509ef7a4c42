"""Published weights of networks: found in a folder, or downloaded after a word about their licence."""

from __future__ import annotations

import http.client
import importlib
import importlib.util
import logging
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from tqdm import tqdm

from utils.errors import InputError

log = logging.getLogger("specula")

_PATIENCE_S = 30.0
_BLOCK = 1 << 18
_UNREACHABLE = (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError)


@dataclass(frozen=True)
class Weights:
    """The files of one published network.

    Args:
        name: their folder inside --weights_dir, and what messages call them.
        addresses: name of each file -> where it is published.
        licence: what the licence is called and what it allows.
        free: False where it forbids some uses: it has to be accepted before anything is downloaded.
    """

    name: str
    addresses: Mapping[str, str]
    licence: str
    free: bool


def weights_folder(weights_dir: str) -> Path:
    """Return the folder of all weights: the one given, or `specula/weights` in the user's cache."""
    if weights_dir:
        return Path(weights_dir).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "specula" / "weights"


def find_weights(weights_dir: str, weights: Weights) -> list[Path]:
    """Return the files of a network that are there, in the order of `addresses`; nothing is downloaded.

    What a stage names in `Stage.files`: the content of the weights is then part of its stamp.
    """
    folder = weights_folder(weights_dir) / weights.name
    return [folder / file for file in weights.addresses if (folder / file).is_file()]


def ensure_weights(weights_dir: str, weights: Weights, *, accept_license: bool) -> list[Path]:
    """Return the files of a network, and download those that are missing. For `Stage.check`: before any work.

    Weights that are not free are downloaded when the licence is accepted: by the flag, or by an answer where
    somebody sits at a terminal. Files that are there need no acceptance: who put them there has given it.

    Raises:
        InputError: files are missing, and the licence is not accepted or nothing can be downloaded.
    """
    folder = weights_folder(weights_dir) / weights.name
    missing = [file for file in weights.addresses if not (folder / file).is_file()]
    if missing:
        log.info("weights %s are published under this licence: %s", weights.name, weights.licence)
        if not (weights.free or accept_license or _consents(weights)):
            _refuse(weights, folder, missing, "their licence is not accepted", "add --accept_license, or ")
        for file in missing:
            try:
                _download(weights.addresses[file], folder / file)
            except _UNREACHABLE as error:
                _refuse(weights, folder, missing, f"{file} cannot be downloaded ({error})", "")
    return find_weights(weights_dir, weights)


def library(name: str, extra: str = "learned") -> ModuleType:
    """Import a library of an extra. Raises InputError where it is not installed."""
    require_library(name, extra)
    return importlib.import_module(name)


def require_library(name: str, extra: str = "learned") -> None:
    """Raise InputError where a library of an extra is not installed; it is not imported."""
    package = name.split(".")[0]
    if importlib.util.find_spec(package) is None:
        raise InputError(
            f"the library {package} is missing",
            found=f"an installation without the extra `{extra}`",
            expected=f"{package}, for networks with published weights",
            do=f"pip install '.[{extra}]' in the folder of this program",
        )


def _consents(weights: Weights) -> bool:
    """Ask for the licence's acceptance where somebody can answer."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    sys.stderr.write(f"\n{weights.name}: {weights.licence}\nDownload and use under this licence? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _refuse(weights: Weights, folder: Path, missing: Sequence[str], why: str, first: str) -> NoReturn:
    places = "; ".join(f"{weights.addresses[file]} as {folder / file}" for file in missing)
    raise InputError(
        f"the weights {weights.name} are missing",
        found=f"no {', '.join(missing)} in {folder}, and {why}",
        expected=f"{', '.join(weights.addresses)}; licence: {weights.licence}",
        do=f"{first}save {places} (another folder of weights: --weights_dir)",
    )


def _download(address: str, path: Path) -> None:
    """Save a file; a download that breaks off leaves none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with urllib.request.urlopen(address, timeout=_PATIENCE_S) as source, open(partial, "wb") as target:
        size = int(source.headers.get("Content-Length") or 0)
        with tqdm(total=size, desc=path.name, unit="B", unit_scale=True, disable=None, leave=False) as bar:
            while block := source.read(_BLOCK):
                target.write(block)
                bar.update(len(block))
    if size and partial.stat().st_size != size:
        raise ConnectionError(f"{partial.stat().st_size} of {size} bytes came")
    os.replace(partial, path)
