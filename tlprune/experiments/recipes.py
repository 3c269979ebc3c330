"""Configs of ``tlprune fit`` in a sweep: the options that a run overrides, and those that affect its outcome."""

from copy import deepcopy
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from tlprune.data.shots import ALL_SHOTS, read_shots
from tlprune.datamodules.arguments import INCLUDED, TRANSFORMS, WHAT_IS_KEPT, refuse_moved
from tlprune.errors import InputError
from tlprune.experiments.results import SCRATCH
from tlprune.preprocessing import Preprocessing
from tlprune.selection_inputs import SelectOptions
from tlprune.storage.named import class_paths, digest_named_files, digest_own_code
from tlprune.storage.one_value_yaml import load_yaml
from tlprune.storage.paths import expanded, user_path

__all__ = ["Recipe", "is_config"]

_WRITES = ("ExportBackbone", "ModelCheckpoint")
"""Callbacks that write their own files; a cell replaces them with its own."""

_TIMER = "lightning.pytorch.callbacks.Timer"

_STOPWATCH = {"class_path": "tlprune.experiments.stopwatch.Stopwatch"}
"""Callback that measures training time across resumed runs."""


def is_config(path: str) -> bool:
    """Returns whether a file is a config rather than weights, judging by its name."""
    return path.endswith((".yaml", ".yml"))


@dataclass(frozen=True)
class Recipe:
    """Config of ``tlprune fit``.

    Args:
        path: Path of the file.
        config: Content of the file.
    """

    path: str
    config: dict[str, Any]

    @classmethod
    def read(cls, path: str, data: str) -> "Recipe":
        """Reads a yaml file.

        Args:
            path: Path of the file.
            data: Name of the required DataModule.

        Raises:
            InputError: If the file is missing or not yaml, or model and data are not given by ``class_path``.
        """
        try:
            config = load_yaml(user_path(path).read_text())
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
        """File and content, in the form that reports show."""
        return {"path": self.path, "config": self.config}

    def options(self, part: str) -> dict[str, Any]:
        """Returns the options of ``model`` or ``data``."""
        return self.config[part].get("init_args") or {}

    @property
    def data(self) -> dict[str, Any]:
        """Options of the DataModule, except those that choose the kept images."""
        return {name: value for name, value in self.options("data").items() if name not in WHAT_IS_KEPT}

    @property
    def source_data(self) -> dict[str, Any]:
        """Options of :attr:`data` that concern the images of the source, and nothing beside it."""
        return {name: value for name, value in self.data.items() if name not in (*INCLUDED, *TRANSFORMS)}

    @property
    def shots(self) -> int | None:
        """Labelled training images per class of a transfer; None for all.

        Raises:
            InputError: The config has another value.
        """
        try:
            return read_shots(self.data.get("shots", ALL_SHOTS))
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from error

    def with_shots(self, shots: int | None) -> "Recipe":
        """Returns the config of a transfer with another number of labelled training images per class; None for all."""
        return self._with("data", "shots", shots)

    def with_start(self, start: str) -> "Recipe":
        """Returns the config of a training from other weights.

        Args:
            start: :data:`~tlprune.experiments.results.SCRATCH` for random weights, or weights as a module takes them.
        """
        return self._with("model", "weights", None if start == SCRATCH else expanded(start))

    def _with(self, part: str, name: str, value: int | str | None) -> "Recipe":
        """Returns the config with another value of an option; without the option for None."""
        config = deepcopy(self.config)
        others = {option: given for option, given in self.options(part).items() if option != name}
        config[part]["init_args"] = deepcopy(others) | ({} if value is None else {name: value})
        return Recipe(self.path, config)

    @property
    def weights(self) -> str | None:
        """Weights that the training starts from, if the config sets them."""
        weights = self.options("model").get("weights")
        return None if weights is None else str(weights)

    @property
    def includes_target(self) -> bool:
        """Whether training batches hold images of the target, so that the outcome depends on it."""
        return self.data.get("include_target") is not None

    @property
    def select_options(self) -> SelectOptions:
        """Options for making Selections, as far as the config sets them."""
        given = self.options("data").get("selection")
        options = dict(given) if isinstance(given, dict) else {}
        if odd := sorted(options.keys() - {one.name for one in fields(SelectOptions)}):
            raise InputError(f"{self.path}: `selection` has no option {odd[0]!r}")
        if (expected := options.get("surrogate_preprocessing")) is not None:
            options["surrogate_preprocessing"] = Preprocessing.from_json(expected)
        return SelectOptions(**options)

    @property
    def backbone(self) -> str | None:
        """Name of the trained network, if the config sets it."""
        name = self.options("model").get("backbone")
        return None if name is None else str(name)

    @property
    def epochs(self) -> int | None:
        """Number of passes over the data, if the config counts epochs."""
        epochs = (self.config.get("trainer") or {}).get("max_epochs")
        return epochs if isinstance(epochs, int) and epochs > 0 else None

    @property
    def decides(self) -> dict[str, Any]:
        """All settings that affect the outcome, as JSON values; paths of outputs and display options do not."""
        kept = deepcopy({name: self.config.get(name) for name in ("model", "trainer")})
        kept["data"] = {"class_path": self.config["data"]["class_path"], "init_args": self.data}
        trainer = kept["trainer"] or {}
        for name in ("logger", "callbacks", "default_root_dir", "enable_progress_bar", "enable_model_summary"):
            trainer.pop(name, None)
        own = {name: self.config[name] for name in ("optimizer", "lr_scheduler") if self.config.get(name) is not None}
        return kept | own | {"trainer": trainer, "callbacks": self._callbacks()}

    @property
    def depends_on(self) -> dict[str, Any]:
        """Digests of files named by the model and of the user's own code; empty without either."""
        files, code = digest_named_files([self.config["model"]]), digest_own_code(class_paths(self.config))
        return {name: found for name, found in (("files", files), ("code", code)) if found}

    @property
    def writes_checkpoints(self) -> bool:
        """Whether runs write checkpoints and resume within an interrupted training."""
        return (self.config.get("trainer") or {}).get("enable_checkpointing") is not False

    @property
    def verify_content(self) -> bool:
        """Whether every byte of every image is read before finished work is reused."""
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
        """Builds the config of one run: this config with some options replaced.

        Args:
            folder: Folder for the run's state.
            curves: Folder for TensorBoard, if the config uses it.
            seed: Seed of the run.
            data: Options of the DataModule, added to those of :attr:`data`.
            model: Options of the module to replace.
            trainer: Options of the Trainer to replace.
            callbacks: Callbacks added to those that write no files and to a stopwatch.
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
        # The Trainer ignores it if any Timer is present, and the stopwatch is one
        if (longest := given.get("max_time")) is not None:
            made["trainer"]["callbacks"].append({"class_path": _TIMER, "init_args": {"duration": longest}})
            made["trainer"]["max_time"] = None
        return made

    def _callbacks(self) -> list[dict[str, Any]]:
        given = deepcopy((self.config.get("trainer") or {}).get("callbacks") or [])
        listed = given if isinstance(given, list) else [given]
        return [one for one in listed if str(one.get("class_path", "")).rpartition(".")[2] not in _WRITES]


def _logger(given: Any, curves: Path) -> Any:
    """Moves the config's TensorBoard logger to the sweep's folder; other loggers are dropped."""
    if not isinstance(given, dict) or str(given.get("class_path", "")).rpartition(".")[2] != "TensorBoardLogger":
        return False
    options = (given.get("init_args") or {}) | {"save_dir": str(curves.parent), "name": curves.name}
    return {"class_path": given["class_path"], "init_args": options}
