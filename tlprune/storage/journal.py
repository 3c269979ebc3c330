"""The journal of a piece of work: which stages are finished, each under a key that says what it depends on.

A stage is a folder ``NAME-KEY``. What is in it while the stage is at work is the stage's own affair; once it is
finished there is a file ``done.json``, written whole or not at all, with what came out and the digest of every file
that was made. A stage that depends on something else has another key, so nothing is ever taken for what it is not.
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
"""Name of the file that says a stage is finished."""


@dataclass(frozen=True)
class Done:
    """What is known of a finished stage.

    Args:
        result: What came out, as JSON values.
        outputs: Files that were made.
        when: Date and time of its end.
    """

    result: Any
    outputs: tuple[Path, ...]
    when: str


@dataclass(frozen=True)
class Stage:
    """One stage of a journal.

    Args:
        folder: Where its state lies while it is at work.
        depends: What it depends on, as JSON values.
    """

    folder: Path
    depends: Any

    @property
    def done(self) -> Done | None:
        """What came out, if the stage is finished and all that it made is still as it was; else None.

        What was changed or removed since, or a damaged note, is warned of.
        """
        path = self.folder / DONE
        try:
            noted = json.loads(path.read_text())
            content = noted["content"]
            if noted["checksum"] != digest_json(content):
                raise ValueError("its checksum does not match")
            outputs: dict[str, str] = content["outputs"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            warn(f"{path}: damaged ({error}); doing this stage again", stacklevel=2)
            return None
        for name, digest in outputs.items():
            if not Path(name).is_file() or digest_file(name) != digest:
                warn(f"{name}: changed or removed since it was made; doing this stage again", stacklevel=2)
                return None
        return Done(content["result"], tuple(map(Path, outputs)), content["when"])

    def finish(self, result: Any, outputs: Iterable[str | os.PathLike[str]] = ()) -> None:
        """Notes that the stage is finished.

        Args:
            result: What came out, as JSON values.
            outputs: Files that were made.

        Raises:
            InputError: The journal cannot be written.
        """
        digests = {str(Path(path).absolute()): digest_file(path) for path in outputs}
        when = time.strftime("%Y-%m-%d %H:%M:%S")
        content = {"depends": self.depends, "result": result, "outputs": digests, "when": when}
        noted = {"content": content, "checksum": digest_json(content)}
        write_bytes(self.folder / DONE, json.dumps(noted, indent=1, sort_keys=True).encode())

    def forget(self) -> None:
        """Starts over: nothing of the stage is kept, but for the files that it made elsewhere."""
        forget(self.folder)


@dataclass(frozen=True)
class Journal:
    """The stages of a piece of work.

    Args:
        folder: Where stages have their folders; it need not exist yet.
    """

    folder: Path

    def stage(self, name: str, depends: Any) -> Stage:
        """A stage; other dependencies make it another one.

        Args:
            name: Of the stage, a file name.
            depends: All that its outcome depends on, as JSON values.
        """
        return Stage(self.folder / f"{name}-{digest_json(depends)[:16]}", depends)
