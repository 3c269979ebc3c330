"""LightningCLI as tlprune runs it: any LightningModule, any LightningDataModule, bare class names for ours."""

import warnings
from argparse import ArgumentError
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks.timer import Interval
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.plugins.io import TorchCheckpointIO

import tlprune
from tlprune.callbacks.mixup_cutmix import MixupCutMix
from tlprune.checkpoint_io import AtomicCheckpointIO
from tlprune.data.two_views import RECIPES
from tlprune.datamodules.downstream import DownstreamDataModule
from tlprune.datamodules.prepared import ChecksInputs, DependsOn, StartsOver
from tlprune.datamodules.pruned_source import PrunedSourceDataModule
from tlprune.datamodules.source import SourceDataModule
from tlprune.errors import InputError
from tlprune.fit_stage import FitStage, files_written
from tlprune.logger_starts import refused_starts
from tlprune.modules.classifier import ClassificationModule
from tlprune.modules.ssl import LitSSL
from tlprune.parser_messages import Refusal, in_short
from tlprune.selection.selection import UNIT_WORDS
from tlprune.stopped_fit import RestartClock
from tlprune.storage.paths import user_path

__all__ = ["TLPruneCLI", "run"]


class TLPruneCLI(LightningCLI):
    """LightningCLI, but wrong input is said before anything is written.

    A checkpoint never overrides the command line, and nothing is evaluated without one.

    Args:
        command: The subcommand that is run.
        *arguments: As LightningCLI takes them.
        **options: Likewise.
    """

    def __init__(self, command: str, *arguments: Any, **options: Any) -> None:
        self.quiet = options.get("save_config_callback") is None  # a sweep, which prints results of its own
        known = self.subcommands()
        # a parser of all subcommands takes four times as long to build, and one of them is wanted
        self.subcommands = lambda: {command: known[command]}  # type: ignore[method-assign]
        super().__init__(*arguments, **options)

    def _parse_ckpt_path(self) -> None:
        """Leaves a checkpoint's hyperparameters alone.

        LightningCLI would let them override explicit arguments without a word, and would import the classes they name.
        """

    def instantiate_classes(self) -> None:
        """Builds model, data and trainer, once it is clear that there is something to work on.

        The parser wraps what a constructor raises in pages about the types that it tried; the constructor's own words
        are raised instead.
        """
        self._find_checkpoint()
        refusal = Refusal(self.parser)
        try:
            super().instantiate_classes()
        except Exception:
            if refusal.error is not None:
                raise refusal.error from None
            raise
        self._write_whole_checkpoints()
        self._check_inputs()
        self._open_stage()

    def _run_subcommand(self, subcommand: str) -> None:
        with refused_starts():
            super()._run_subcommand(subcommand)

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand == "fit":
            text = "forget what an earlier run of the same command left, in the journal and in the cache"
            parser.add_argument("--fresh", action="store_true", help=text)
        return parser

    def _open_stage(self) -> None:
        """Finds what is left of an earlier run of the same command, where runs leave something and none is named."""
        self.stage: FitStage | None = None
        self.stopped: str | None = None
        if self.config["subcommand"] != "fit":
            return
        given, trainer = self.config["fit"], self.trainer
        fresh = given.pop("fresh")
        if fresh and isinstance(self.datamodule, StartsOver):
            self.datamodule.start_over()
        if (
            given.get("ckpt_path") is not None
            or getattr(trainer, "fast_dev_run", False)
            or not trainer.checkpoint_callbacks
        ):
            return
        config = yaml.safe_load(self.parser.dump(self.config, skip_link_targets=False, skip_none=False))["fit"]
        images = self.datamodule.depends_on() if isinstance(self.datamodule, DependsOn) else None
        self.stage = FitStage(config, trainer, images)
        if fresh:
            self.stage.start_over()

    def fit(self, model: LightningModule, **options: Any) -> None:
        """Trains; goes on where an earlier run of the same command stopped, and does not repeat one that ended.

        A run that stops before its planned end, as by ``max_time``, has not ended.

        Args:
            model: What is trained.
            **options: What :meth:`lightning.pytorch.Trainer.fit` takes besides.
        """
        stage = self.stage
        self.trainer.callbacks[:0] = [RestartClock(), *([] if self.quiet else [_SayKept()])]  # type: ignore[attr-defined]
        if stage is None:
            self.trainer.fit(model, **options)
            self._say_written()
            return
        if (done := stage.done) is not None:
            made = ", ".join(map(str, done.outputs)) or "no files"
            self._say(f"this run ended on {done.when} and left {made}; --fresh trains again")
            return
        if (state := stage.state) is not None:
            self._say(f"going on where this run was stopped, from {state}; --fresh starts over")
            options["ckpt_path"] = state
            stage.go_on(state)
        stage.keep_state()
        self.trainer.fit(model, **options)
        end = None if self.trainer.interrupted else stage.end
        if end is not None and end.stopped is None:
            stage.finish()
            self._say_written()
        elif end is not None:
            self.stopped = f"{end.stopped} after {end.steps} steps, before its planned end"
            self._say(f"this run stopped: {self.stopped}; the same command goes on")

    def _say_written(self) -> None:
        written = files_written(self.trainer)
        if written and not self.quiet:
            self._say(f"wrote {', '.join(f'{path} ({text})' if text else str(path) for path, text in written.items())}")

    def _write_whole_checkpoints(self) -> None:
        """Has the Trainer write and read checkpoints as we do, unless the user chose another way."""
        strategy = self.trainer.strategy
        if type(strategy.checkpoint_io) is TorchCheckpointIO:
            asked = self.config[self.config["subcommand"]].get("ckpt_path")
            strategy.checkpoint_io = AtomicCheckpointIO(fall_back=asked == "last")

    def _say(self, what: str) -> None:
        if self.trainer.is_global_zero:
            print(f"tlprune: {what}", flush=True)

    def _find_checkpoint(self) -> Path | None:
        """The checkpoint file asked for; None if there is none, or if Lightning finds it by a name such as ``last``."""
        command = self.config["subcommand"]
        given = self.config[command].get("ckpt_path")
        if given is None:
            if command != "fit":
                raise InputError(f"`tlprune {command}` needs --ckpt_path: without one it would score a random model")
            return None
        if "://" in str(given):
            raise InputError(f"--ckpt_path {given}: checkpoints are read from local files only")
        if given in ("last", "hpc", "best", "registry"):
            if command != "fit":  # where Lightning finds none it only warns, and scores a random model
                raise InputError(f"`tlprune {command}` needs a file for --ckpt_path, got the name {given!r}")
            return None
        path = user_path(given)
        if not path.exists():
            raise InputError(f"--ckpt_path {given}: no such checkpoint")
        self.config[command]["ckpt_path"] = str(path)
        return path

    def _check_inputs(self) -> None:
        _check_views(self.model, self.datamodule)
        if isinstance(self.datamodule, ChecksInputs):
            self.datamodule.check_inputs()
        for callback in self.trainer.callbacks if self.config["subcommand"] == "fit" else ():  # type: ignore[attr-defined]
            if isinstance(callback, MixupCutMix):
                callback.check_data(self.trainer, self.model, self.datamodule)
        file = self._find_checkpoint()
        if file is None or not file.is_file():
            return
        checkpoint = AtomicCheckpointIO().load_checkpoint(file)
        if isinstance(self.model, ClassificationModule):
            self.model.check_checkpoint(checkpoint)


class _SayKept(Callback):
    """Prints what a Selection keeps of the source when training starts."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints one line on rank 0; nothing if nothing is pruned."""
        data: Any = getattr(trainer, "datamodule", None)
        if not isinstance(data, PrunedSourceDataModule) or data.selection is None or not trainer.is_global_zero:
            return
        kept, of = data.units_kept, data.selection.num_units
        units = f"{kept:,} of {of:,} {UNIT_WORDS[data.selection.unit_kind][1]}"
        print(f"tlprune: keeps {units}, {data.images_kept:,} images to train on", flush=True)


class SaveConfigAtStart(SaveConfigCallback):
    """Writes the configuration once data and model are set up, so that what these refuse leaves no file."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Writes nothing yet."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the configuration."""
        super().setup(trainer, pl_module, "fit")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the configuration."""
        super().setup(trainer, pl_module, "validate")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the configuration."""
        super().setup(trainer, pl_module, "test")

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the configuration."""
        super().setup(trainer, pl_module, "predict")


def _check_views(model: LightningModule, data: LightningDataModule | None) -> None:
    """Refuses augmentations of two views for a classifier, and of one view for LitSSL."""
    if not isinstance(data, SourceDataModule | DownstreamDataModule) or data.transform is not None:
        return
    name, views = type(model).__name__, f"`augment` {data.augment!r} gives"
    if isinstance(model, LitSSL) and data.augment not in RECIPES:
        choices = ", ".join(RECIPES)
        raise InputError(f"{name} compares two views of each image, {views} one: choose one of {choices}")
    if isinstance(model, ClassificationModule) and data.augment in RECIPES:
        raise InputError(f"{name} takes one view of each image, {views} two: set another `augment`")


def _load_named_classes() -> None:
    """Imports what yaml may name without its module: the parser finds a bare class name only among what is loaded."""
    for name in tlprune.__all__:
        getattr(tlprune, name)
    import_module("tlprune.modules.optim")
    # the default of Timer's `interval`, which no yaml file can hold: without this no config has a Timer
    yaml.SafeDumper.add_representer(Interval, lambda dumper, interval: dumper.represent_str(interval.value))


def run(arguments: list[str], save_config: bool = True) -> TLPruneCLI:
    """Runs ``fit``, ``validate``, ``test`` or ``predict``.

    Args:
        arguments: The subcommand's name and its arguments.
        save_config: Whether ``fit`` writes the whole configuration beside its logs, and prints what it keeps and wrote.

    Returns:
        The CLI object, which holds model, data and trainer.

    Raises:
        InputError: Something given is wrong.
    """
    _load_named_classes()
    # LightningCLI takes any argument list beside a non-empty sys.argv for a mistake
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
    try:
        return _cli(arguments, save_config)
    except ArgumentError as error:
        raise InputError(in_short(str(error))) from error


def _cli(arguments: list[str], save_config: bool) -> TLPruneCLI:
    return TLPruneCLI(
        arguments[0],
        LightningModule,
        LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        seed_everything_default=0,
        save_config_callback=SaveConfigAtStart if save_config else None,
        save_config_kwargs={"overwrite": True},
        load_from_checkpoint_support=False,
        parser_kwargs={"prog": "tlprune", "version": f"tlprune {tlprune.__version__}", "exit_on_error": False},
        args=arguments,
    )
