"""What each of Lightning's loggers has of a fit: written by the real clients to files, without a network."""

import csv
import json
import os
import re
import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from PIL import Image

from forked import run
from tlprune import (
    ConfusionMonitor,
    CostMonitor,
    HParamsMonitor,
    LitClassifier,
    PrunedSourceDataModule,
    SelectionMonitor,
)
from tlprune.callbacks.logger_adapters import adapt_loggers
from tlprune.callbacks.tables import markdown_text
from tlprune.cli import main
from tlprune.data.target_splits import TargetSplits
from tlprune.fit_stage import FitStage
from tlprune.logger_starts import refused_starts
from tlprune.models.backbones import Classifier, create_backbone
from tlprune.models.weights import save_classifier

pytestmark = [
    pytest.mark.filterwarnings("ignore:The number of training batches", "ignore:.* units are kept, but only"),
    # by MLflow before it refuses a file store unless MLFLOW_ALLOW_FILE_STORE is set
    pytest.mark.filterwarnings("ignore:The filesystem tracking backend"),
]

OFFLINE = {
    "WANDB_MODE": "offline",
    "WANDB_SILENT": "true",
    "WANDB_ERROR_REPORTING": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ALLOW_FILE_STORE": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
FIT = ["fit", "--model=LitClassifier", "--model.backbone=resnet8_w8", "--data=PrunedSourceDataModule"]
STEPS = [4, 8]
FIGURES = ["selection/votes", "selection/units", "val/confusion"]
NUMBERS = {"selection/units_kept", "selection/votes_covered", "cost/minutes_spent", "best/val/accuracy", "val/accuracy"}


class Somebodys(Logger):
    """A logger that knows numbers and hyperparameters only, as Lightning asks of every logger."""

    name = "somebody's"
    version = 3

    def __init__(self):
        super().__init__()
        self.metrics = []
        self.params = {}

    def log_metrics(self, metrics, step=None):
        self.metrics += [(name, step) for name in metrics]

    def log_hyperparams(self, params):
        self.params |= params


class Fitted:
    """A fit of two epochs that all loggers saw, and what the Selection was."""

    def __init__(self, folder, coloured):
        train, val, test = (coloured(4, each, seed) for seed, each in enumerate((8, 5, 6), 1))
        target = TargetSplits("colours", train, val, test, 32, "made for tests")
        others = replace(target, train=target.train.subset(torch.arange(8)), name="/data//münzen: alt")
        torch.manual_seed(0)
        classifier = Classifier(create_backbone("resnet8_w8"), 30)
        save_classifier(folder / "s.safetensors", "resnet8_w8", classifier.backbone, classifier.head, [])
        self.folder = folder
        self.mlflow = MLFlowLogger("tests", tracking_uri=f"file:{folder}/mlruns")
        self.wandb = WandbLogger("a run", save_dir=folder, project="tests", offline=True)
        self.csv = CSVLogger(folder, name="csv", version="run")
        self.board = TensorBoardLogger(folder, name="board", version="run")
        self.other = Somebodys()
        self.data = PrunedSourceDataModule(
            coloured(30, 10), [target, others], surrogate=str(folder / "s.safetensors"), prune_ratio=0.5, batch_size=32
        )
        self.fit([self.csv, self.wandb, self.mlflow, self.board, self.other], 2)
        self.selection = self.data.selection

    def fit(self, loggers, epochs):
        torch.manual_seed(0)
        callbacks = [SelectionMonitor(), ConfusionMonitor(1), CostMonitor(), HParamsMonitor()]
        quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = Trainer(
            accelerator="cpu", max_epochs=epochs, logger=loggers, callbacks=callbacks, log_every_n_steps=2, **quiet
        )
        trainer.fit(LitClassifier("resnet8_w8"), datamodule=self.data)

    def ranking(self):
        """Rows of the table that describes units, best first."""
        shown = []
        for place, unit in enumerate(self.selection.ranking.tolist()):
            fate = "kept" if place < 15 else "dropped"
            shown.append([f"colour{unit:02}", fate, float(self.selection.votes[unit]), place + 1, 10])
        return shown

    def curve(self):
        """Share of votes of the best 1, 2, ... units, summed one by one."""
        votes = [self.selection.votes[unit].item() for unit in self.selection.ranking.tolist()]
        return [(count, pytest.approx(sum(votes[:count]) / sum(votes))) for count in range(1, 31)]


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    """Nobody asks a network, nor writes to the user's folders."""
    folder = tmp_path_factory.mktemp("loggers")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in OFFLINE.items():
            patch.setenv(name, value)
        for name in ("TLPRUNE_CACHE", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
            patch.setenv(name, str(folder / name))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield folder
        if "wandb" in sys.modules:
            sys.modules["wandb"].finish()
            sys.modules["wandb"].teardown()


@pytest.fixture(scope="module")
def fitted(offline, coloured):
    return Fitted(offline, coloured)


def table(path):
    header, *rows = csv.reader(path.read_text().splitlines())
    return header, [[float(cell) if cell.replace(".", "").isdigit() else cell for cell in row] for row in rows]


def pictures(paths):
    """Width of each picture, by path."""
    widths = {}
    for path in paths:
        with Image.open(path) as picture:
            widths[path] = picture.width
    return widths


def test_csv_has_pictures_and_tables_beside_its_metrics(fitted):
    folder = fitted.folder / "csv/run"
    once = [folder / f"{name}.png" for name in FIGURES[:2]]
    assert min(pictures([*once, *(folder / f"val/confusion/step_{step}.png" for step in STEPS)]).values()) > 300
    header, rows = table(folder / "selection/ranking.csv")
    assert header == ["unit", "kept or dropped", "votes", "rank", "images"]
    assert rows == fitted.ranking()
    assert [tuple(row) for row in table(folder / "selection/coverage_curve.csv")[1]] == fitted.curve()
    assert table(folder / "val/confused_pairs/step_8.csv")[0][:3] == ["true class", "taken for", "images"]
    with (folder / "metrics.csv").open() as file:
        logged = list(csv.DictReader(file))
    assert set(logged[0]) >= NUMBERS | {"selection/votes_covered_by_target/colours"}
    best = [float(row["best/val/accuracy"]) for row in logged if row["best/val/accuracy"]]
    assert best[-1] == max(float(row["val/accuracy"]) for row in logged if row["val/accuracy"])
    told = yaml.safe_load((folder / "hparams.yaml").read_text())
    assert (told["backbone"], told["prune_ratio"], told["training/epochs"]) == ("resnet8_w8", 0.5, 2)
    assert told["flip_average"] is False


def test_wandb_has_media_config_and_summary(fitted):
    [folder] = (fitted.folder / "wandb").glob("offline-run-*")
    media = folder / "files/media"
    for name, count in zip(FIGURES, (1, 1, 2), strict=True):
        found = pictures((media / "images").glob(f"{name}_*.png"))
        assert len(found) == count
        assert min(found.values()) > 300
    [ranking] = (media / "table/selection").glob("ranking_*.table.json")
    assert json.loads(ranking.read_text())["data"] == fitted.ranking()
    [curve] = (media / "table/selection").glob("coverage_curve_table_*.table.json")
    assert [tuple(row) for row in json.loads(curve.read_text())["data"]] == fitted.curve()
    assert len(list((media / "table/val").glob("confused_pairs_*.table.json"))) == 2
    experiment = fitted.wandb.experiment
    assert set(experiment.summary.keys()) >= NUMBERS
    assert experiment.summary["best/val/accuracy"] >= experiment.summary["val/accuracy"]
    assert experiment.summary["trainer/global_step"] in (7, 8)  # no curve moved the axis of the others
    votes = fitted.selection.votes
    for part, shown in (("all", votes), ("kept", votes[fitted.selection.ranking[:15]])):
        histogram = experiment.summary[f"selection/votes_of_a_unit/{part}"]
        assert sum(histogram["values"]) == len(shown)
        assert histogram["bins"][-1] == shown.max()
    config = experiment.config
    assert (config["backbone"], config["prune_ratio"], config["training/epochs"]) == ("resnet8_w8", 0.5, 2)
    assert config["flip_average"] is False
    assert list(folder.glob("run-*.wandb"))  # which 'wandb sync' uploads


def test_mlflow_has_artifacts_parameters_and_metrics(fitted):
    client, run_id = fitted.mlflow.experiment, fitted.mlflow.run_id

    def artifact(path):
        return Path(client.download_artifacts(run_id, path, str(fitted.folder)))

    once = [f"{name}.png" for name in FIGURES[:2]]
    found = pictures(map(artifact, [*once, *(f"val/confusion/step_{step}.png" for step in STEPS)]))
    assert min(found.values()) > 300
    assert table(artifact("selection/ranking.csv"))[1] == fitted.ranking()
    assert table(artifact("val/confused_pairs/step_8.csv"))[0][:2] == ["true class", "taken for"]
    run = client.get_run(run_id)
    covered = {name for name in run.data.metrics if name.startswith("selection/votes_covered_by_target/")}
    assert covered == {f"selection/votes_covered_by_target/{name}" for name in ("colours", "data/m_nzen_ alt")}
    assert set(run.data.metrics) >= NUMBERS
    curve = client.get_metric_history(run_id, "selection/coverage_curve")
    assert [(point.step, point.value) for point in curve] == fitted.curve()
    best = [point.value for point in client.get_metric_history(run_id, "best/val/accuracy")]
    accuracies = [point.value for point in client.get_metric_history(run_id, "val/accuracy")]
    assert best == pytest.approx([accuracies[0], max(accuracies)])
    told = run.data.params
    assert (told["backbone"], told["prune_ratio"], told["training.epochs"]) == ("resnet8_w8", "0.5", "2")
    assert told["selection.units_kept"] == "15"
    assert run.info.status == "FINISHED"


def test_tensorboard_and_a_logger_of_numbers_have_theirs_in_the_same_fit(fitted, events):
    found = events(fitted.folder / "board/run")
    assert set(found.Tags()["images"]) == set(FIGURES)
    [text] = found.Tensors("selection/ranking/text_summary")
    rows = [[name, fate, f"{votes:g}", *map(str, rest)] for name, fate, votes, *rest in fitted.ranking()]
    assert text.tensor_proto.string_val[0].decode().splitlines()[2:] == [f"| {' | '.join(row)} |" for row in rows]
    assert {name for name, _ in fitted.other.metrics} >= NUMBERS
    assert [step for name, step in fitted.other.metrics if name == "selection/coverage_curve"] == list(range(1, 31))
    assert fitted.other.params["prune_ratio"] == 0.5


def test_a_run_of_mlflow_that_goes_on_keeps_its_parameters(fitted, trainer):
    again = MLFlowLogger("tests", tracking_uri=f"file:{fitted.folder}/mlruns", run_id=fitted.mlflow.run_id)
    [adapter] = adapt_loggers(trainer(logger=again))
    adapter.log_hyperparameters({"training/epochs": 3, "backbone": "resnet8_w8", "note": "x" * 1000})
    told = again.experiment.get_run(again.run_id).data
    assert told.params["training.epochs"] == "2"  # MLflow changes no parameter
    assert told.tags["training.epochs"] == "3"
    assert "backbone" not in told.tags
    assert set(told.params["note"]) == {"x"}


def test_a_stopped_fit_goes_on_in_its_run_of_mlflow_as_long_as_that_exists(offline, trainer):
    def begin(**options):
        logger = MLFlowLogger("stopped", tracking_uri=f"file:{offline}/mlruns", **options)
        stopped = trainer(logger=logger, default_root_dir=offline, enable_checkpointing=True)
        FitStage({}, stopped, None).keep_state()
        return logger

    first = begin()
    assert begin().run_id == first.run_id
    assert begin(run_name="another").run_id != first.run_id
    first.experiment.delete_run(first.run_id)
    again = begin()
    assert again.run_id != first.run_id
    assert begin().run_id == again.run_id
    assert begin(run_id=first.run_id).run_id == first.run_id


def test_the_command_says_in_one_line_why_a_logger_cannot_be_used(offline, monkeypatch, capsys):
    monkeypatch.chdir(offline)
    assert main([*FIT, "--trainer.logger=MLFlowLogger", "--trainer.logger.tracking_uri=odd://x"]) == 2
    [line] = [one for one in capsys.readouterr().err.splitlines() if one.startswith("tlprune: error")]
    assert line.startswith("tlprune: error: MLFlowLogger: ")
    assert "odd://x" in line


@pytest.mark.parametrize(
    ("key", "said"),
    [(None, "No API key configured"), ("short", "has 5; `wandb login` stores")],
)
def test_the_command_says_in_one_line_that_wandb_wants_a_login(offline, class_folder, tmp_path, key, said):
    source = f"--data.source={class_folder('src', {'ant': 3, 'bee': 3})}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment |= {name: str(tmp_path / "none") for name in ("NETRC", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "HOME")}
    environment |= {"WANDB_ERROR_REPORTING": "false", **({"WANDB_API_KEY": key} if key else {})}
    here = tmp_path / "here"
    here.mkdir()
    done = run([sys.executable, "-m", "tlprune", *FIT, source, "--trainer.logger=WandbLogger"], here, environment)
    assert done.returncode == 2, done.stdout
    assert "Traceback" not in done.stdout
    [line] = [one for one in done.stdout.splitlines() if one.startswith("tlprune: error")]
    assert line.startswith("tlprune: error: WandbLogger: ")
    assert said in line
    assert line.endswith("`offline: true` of the logger needs neither key nor network")
    assert list(here.iterdir()) == []


def test_the_command_says_in_one_line_that_a_server_of_mlflow_does_not_answer(
    offline, class_folder, tmp_path, monkeypatch, capsys
):
    source = f"--data.source={class_folder('src', {'ant': 3, 'bee': 3})}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as taken:  # nobody listens there
        taken.bind(("127.0.0.1", 0))
        server = f"http://127.0.0.1:{taken.getsockname()[1]}"
        assert main([*FIT, source, "--trainer.logger=MLFlowLogger", f"--trainer.logger.tracking_uri={server}"]) == 2
    [line] = [one for one in capsys.readouterr().err.splitlines() if one.startswith("tlprune: error")]
    assert line.startswith(f"tlprune: error: MLFlowLogger: API request to {server}")


def test_an_error_while_a_logger_runs_is_no_refused_start():
    class Running(Somebodys):
        @property
        def experiment(self):
            return self

        def log_metrics(self, metrics, step=None):
            raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError), refused_starts():
        Running().experiment.log_metrics({})


WITHOUT_CLIENTS = """
import sys
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from matplotlib.figure import Figure
from tlprune import ConfusionMonitor, CostMonitor, HParamsMonitor, SelectionMonitor
from tlprune.callbacks.logger_adapters import adapt_loggers, draw
loggers = [CSVLogger(sys.argv[1], "csv"), TensorBoardLogger(sys.argv[1], "board")]
trainer = Trainer(accelerator="cpu", logger=loggers, callbacks=[ConfusionMonitor(), HParamsMonitor()])
for adapter in adapt_loggers(trainer):
    adapter.log_picture("a/figure", draw(Figure()))
    adapter.log_hyperparameters({"a": 1})
print([name for name in ("wandb", "mlflow", "mlflow.tracking") if name in sys.modules])
"""


def test_clients_are_imported_for_their_own_loggers_only(tmp_path):
    (tmp_path / "log.py").write_text(WITHOUT_CLIENTS)
    done = run([sys.executable, tmp_path / "log.py", tmp_path])
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr
    assert (tmp_path / "csv/version_0/a/figure.png").is_file()


def test_a_trial_run_has_nothing_to_log_to(trainer):
    assert adapt_loggers(trainer(fast_dev_run=True, logger=True)) == []
    assert adapt_loggers(trainer(logger=False)) == []


@pytest.mark.filterwarnings("ignore:html5lib")  # where TensorBoard loads it
@pytest.mark.parametrize("name", ["__init__", "a*b*c", "[x](http://a)", "a\\b", "`c`", "a|b", "#1 @name", "a_b"])
def test_tensorboard_shows_any_name_as_it_is(name):
    from tensorboard.plugin_util import markdown_to_safe_html

    html = markdown_to_safe_html(markdown_text(["class"], [[name], ["other"]]))
    assert re.findall("<td[^>]*>(.*?)</td>", html) == [name, "other"]


def test_a_table_without_rows_has_its_header():
    assert markdown_text(["a", "b"], []) == "| a | b |\n|---|---|"
