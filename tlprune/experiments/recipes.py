"""Configs of ``tlprune fit`` as a sweep uses them: what a run changes, and what decides its outcome."""

from copy import deepcopy
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from tlprune.datamodules.arguments import WHAT_IS_KEPT, refuse_moved
from tlprune.errors import InputError
from tlprune.preprocessing import Preprocessing
from tlprune.selection_inputs import SelectOptions
from tlprune.storage.named import class_paths, digest_named_files, digest_own_code
from tlprune.storage.paths import user_path

__all__ = ["Recipe", "is_config"]

_WRITES = ("ExportBackbone", "ModelCheckpoint")
"""Callbacks that write files of their own; a cell's are put in their place."""

_TIMER = "lightning.pytorch.callbacks.Timer"

_STOPWATCH = {"class_path": "tlprune.experiments.stopwatch.Stopwatch"}
"""Says how long training took, resumed or not."""


def is_config(path: str) -> bool:
    """Whether a file is a config, as opposed to weights, by its name."""
    return path.endswith((".yaml", ".yml"))


@dataclass(frozen=True)
class Recipe:
    """A config of ``tlprune fit``.

    Args:
        path: Its file.
        config: What is in it.
    """

    path: str
    config: dict[str, Any]

    @classmethod
    def read(cls, path: str, data: str) -> "Recipe":
        """Reads a yaml file.

        Args:
            path: The file.
            data: Name of the DataModule that its ``data`` must be.

        Raises:
            InputError: There is no such file, it is no yaml, or model and data are not given by ``class_path``.
        """
        try:
            config = yaml.safe_load(user_path(path).read_text())
        except OSError as error:
            raise InputError(f"{path}: {error.strerror or error}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: not valid yaml: {' '.join(str(error).split())}") from error
        if not isinstance(config, dict):
            raise InputError(f"{path}: must hold `model`, `data` and `trainer`")
        for part in ("model", "data"):
            if not isinstance(config.get(part), dict) or "class_path" not in config[part]:
                raise InputError(f"{path}: `{part}` must be given by `class_path` and `init_args`")
        if config.get("ckpt_path") is not None:
            raise InputError(f"{path}: `ckpt_path`: a sweep finds the state of its runs itself; remove it")
        trainer = config.get("trainer") or {}
        counted = (trainer.get("max_epochs"), trainer.get("max_steps"))
        if trainer.get("max_time") is not None and not any(isinstance(one, int) and one > 0 for one in counted):
            raise InputError(f"{path}: `max_time` alone never ends a run; give `max_epochs` or `max_steps` beside it")
        found = str(config["data"]["class_path"])
        if found.rpartition(".")[2] != data:
            raise InputError(f"{path}: `data` must be a {data}, got {found}")
        try:
            refuse_moved(config["data"].get("init_args") or {})
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        return cls(path, config)

    @property
    def as_json(self) -> dict[str, Any]:
        """File and content, as reports show them."""
        return {"path": self.path, "config": self.config}

    @property
    def data(self) -> dict[str, Any]:
        """Options of the DataModule without those that choose the kept images."""
        given = self.config["data"].get("init_args") or {}
        return {name: value for name, value in given.items() if name not in WHAT_IS_KEPT}

    @property
    def select_options(self) -> SelectOptions:
        """How Selections are made, as far as the config says."""
        given = (self.config["data"].get("init_args") or {}).get("selection")
        options = dict(given) if isinstance(given, dict) else {}
        if odd := sorted(options.keys() - {one.name for one in fields(SelectOptions)}):
            raise InputError(f"{self.path}: `selection` has no option {odd[0]!r}")
        if (expected := options.get("surrogate_preprocessing")) is not None:
            options["surrogate_preprocessing"] = Preprocessing.from_json(expected)
        return SelectOptions(**options)

    @property
    def backbone(self) -> str | None:
        """Name of the network that it trains, if it says so."""
        name = (self.config["model"].get("init_args") or {}).get("backbone")
        return None if name is None else str(name)

    @property
    def epochs(self) -> int | None:
        """Passes over the data, if it counts in epochs."""
        epochs = (self.config.get("trainer") or {}).get("max_epochs")
        return epochs if isinstance(epochs, int) and epochs > 0 else None

    @property
    def decides(self) -> dict[str, Any]:
        """All of it that decides what comes out, as JSON values; where things are written and shown does not."""
        kept = deepcopy({name: self.config.get(name) for name in ("model", "trainer")})
        kept["data"] = {"class_path": self.config["data"]["class_path"], "init_args": self.data}
        trainer = kept["trainer"] or {}
        for name in ("logger", "callbacks", "default_root_dir", "enable_progress_bar", "enable_model_summary"):
            trainer.pop(name, None)
        own = {name: self.config[name] for name in ("optimizer", "lr_scheduler") if self.config.get(name) is not None}
        return kept | own | {"trainer": trainer, "callbacks": self._callbacks()}

    @property
    def depends_on(self) -> dict[str, Any]:
        """Digests of files that the model names and of the user's own code; empty where there are none."""
        files, code = digest_named_files([self.config["model"]]), digest_own_code(class_paths(self.config))
        return {name: found for name, found in (("files", files), ("code", code)) if found}

    @property
    def writes_checkpoints(self) -> bool:
        """Whether its runs leave checkpoints and go on inside a training that was stopped."""
        return (self.config.get("trainer") or {}).get("enable_checkpointing") is not False

    @property
    def verify_content(self) -> bool:
        """Whether every byte of every image is read before what is finished counts."""
        return bool(self.data.get("verify_content", False))

    def prepared(
        self,
        folder: Path,
        curves: Path,
        seed: int,
        data: dict[str, Any],
        model: dict[str, Any] | None = None,
        trainer: dict[str, Any] | None = None,
        callbacks: tuple[dict[str, Any], ...] = (),
    ) -> dict[str, Any]:
        """The config of one run: the same but for what is given.

        Args:
            folder: Where it leaves its state.
            curves: Folder for TensorBoard, if the config writes any.
            seed: Of the run.
            data: Options of the DataModule beside those of :attr:`data`.
            model: Options of the module that are replaced.
            trainer: Options of the Trainer that are replaced.
            callbacks: Added to those that write no files, and to a stopwatch.
        """
        made = deepcopy(self.config)
        made["seed_everything"] = seed
        made["data"]["init_args"] = self.data | data
        made["model"]["init_args"] = (made["model"].get("init_args") or {}) | (model or {})
        given = made.get("trainer") or {}
        made["trainer"] = {
            **given,
            "default_root_dir": str(folder / "run"),
            "devices": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "logger": _logger(given.get("logger"), curves),
            "callbacks": [*self._callbacks(), *callbacks, _STOPWATCH],
            **(trainer or {}),
        }
        # the Trainer ignores it beside any Timer, and a stopwatch is one
        if (longest := given.get("max_time")) is not None:
            made["trainer"]["callbacks"].append({"class_path": _TIMER, "init_args": {"duration": longest}})
            made["trainer"]["max_time"] = None
        return made

    def _callbacks(self) -> list[dict[str, Any]]:
        given = deepcopy((self.config.get("trainer") or {}).get("callbacks") or [])
        listed = given if isinstance(given, list) else [given]
        return [one for one in listed if str(one.get("class_path", "")).rpartition(".")[2] not in _WRITES]


def _logger(given: Any, curves: Path) -> Any:
    """A TensorBoard of the config's, moved to the sweep's folder; no other."""
    if not isinstance(given, dict) or str(given.get("class_path", "")).rpartition(".")[2] != "TensorBoardLogger":
        return False
    options = (given.get("init_args") or {}) | {"save_dir": str(curves.parent), "name": curves.name}
    return {"class_path": given["class_path"], "init_args": options}
