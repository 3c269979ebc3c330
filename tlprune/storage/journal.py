"""A journal of finished stages of work, each under a key of its dependencies.

A stage is a folder ``NAME-KEY``. A running stage may store any files in it. A finished stage has a file ``done.json``,
which is written atomically and contains the result and the digest of every output file. A stage with other dependencies
has another key, so an outdated result is never reused.
"""

import json
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from warnings import warn

from tlprune.storage.atomic import write_bytes
from tlprune.storage.cache import forget
from tlprune.storage.fingerprint import digest_file, digest_json

__all__ = ["DONE", "Done", "Journal", "Stage"]

DONE = "done.json"
"""Name of the file that marks a stage as finished."""


@dataclass(frozen=True)
class Done:
    """Record of a finished stage.

    Args:
        result: Result of the stage, as JSON values.
        outputs: Output files.
        when: Date and time of the end of the stage.
    """

    result: Any
    outputs: tuple[Path, ...]
    when: str


@dataclass(frozen=True)
class Stage:
    """One stage of a journal.

    Args:
        folder: Folder of the stage, which holds its state while it runs.
        depends: Dependencies of the stage, as JSON values.
    """

    folder: Path
    depends: Any

    @property
    def done(self) -> Done | None:
        """Record of the stage if it is finished and all output files are unchanged; else None.

        Warns about output files that were changed or removed, and about a damaged record.
        """
        path = self.folder / DONE
        try:
            record = json.loads(path.read_text())
            content = record["content"]
            if record["checksum"] != digest_json(content):
                raise ValueError("its checksum does not match")
            outputs: dict[str, str] = content["outputs"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            warn(f"{path}: damaged ({error}); running this stage again", stacklevel=2)
            return None
        for name, digest in outputs.items():
            if not Path(name).is_file() or digest_file(name) != digest:
                warn(f"{name}: changed or removed since it was made; running this stage again", stacklevel=2)
                return None
        return Done(content["result"], tuple(map(Path, outputs)), content["when"])

    def finish(self, result: Any, outputs: Iterable[str | os.PathLike[str]] = ()) -> None:
        """Marks the stage as finished.

        Args:
            result: Result of the stage, as JSON values.
            outputs: Output files.

        Raises:
            InputError: The journal cannot be written.
        """
        digests = {str(Path(path).absolute()): digest_file(path) for path in outputs}
        when = time.strftime("%Y-%m-%d %H:%M:%S")
        content = {"depends": self.depends, "result": result, "outputs": digests, "when": when}
        record = {"content": content, "checksum": digest_json(content)}
        write_bytes(self.folder / DONE, json.dumps(record, indent=1, sort_keys=True).encode())

    def forget(self) -> None:
        """Removes the folder of the stage, but not its output files elsewhere."""
        forget(self.folder)


@dataclass(frozen=True)
class Journal:
    """The stages of a piece of work.

    Args:
        folder: Parent of the folders of the stages, which may not exist yet.
    """

    folder: Path

    def stage(self, name: str, depends: Any) -> Stage:
        """Returns the stage with a name and dependencies.

        Args:
            name: Name of the stage, valid as a file name.
            depends: All dependencies of the result, as JSON values.
        """
        return Stage(self.folder / f"{name}-{digest_json(depends)[:16]}", depends)
