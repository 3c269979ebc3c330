"""Writes shards as others do: tars by the standard library, Parquet by pyarrow."""

import io
import tarfile

import numpy as np
from PIL import Image


def picture(label, number, size=32):
    """A PNG of one colour for each label, with noise."""
    colour = np.random.default_rng(label).integers(30, 226, 3)
    noise = np.random.default_rng([label, number]).integers(-30, 31, (size, size, 3))
    written = io.BytesIO()
    Image.fromarray((colour + noise).astype(np.uint8)).save(written, "PNG")
    return written.getvalue()


def write_tar(path, members):
    """Writes ``(name, bytes)`` in order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return path


def samples(rows, names=None, form="{label}-{number}"):
    """Members of a shard: a picture for each ``(label, number)``, and its class where ``names`` are given."""
    members = []
    for label, number in rows:
        key = form.format(label=label, number=number)
        members.append((f"{key}.png", picture(label, number)))
        if names is not None:
            members.append((f"{key}.cls", str(names[label]).encode()))
    return members


def write_parquet(path, rows, labels=None, **options):
    """Writes a picture for each ``(label, number)`` as Hugging Face does, with labels where these are given."""
    import pyarrow
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {"image": [{"bytes": picture(*row), "path": f"{number}.png"} for number, row in enumerate(rows)]}
    if labels is not None:
        columns["label"] = labels
    parquet.write_table(pyarrow.table(columns), path, **options)
    return path
