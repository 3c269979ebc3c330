"""Loads Selection files that were mutated at random: each is refused by name or works, and memory stays small.

    python benchmarks/faults/mutate_selections.py --output mutate_selections.json

One mutation in four changes the file's bytes, one in four its safetensors header; half change the JSON header or the
tensors inside and then write a checksum that matches, so that they get past it. What is still loaded is shown as
``tlprune show`` does and asked for all that a Selection tells; without a new checksum it must be what it was.
"""

import argparse
import json
import math
import random
import resource
import struct
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout, suppress
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from tlprune.commands.show import show
from tlprune.errors import InputError
from tlprune.selection.ranking import Budget
from tlprune.selection.selection import Selection
from tlprune.storage.fingerprint import digest_json, digest_tensors

BUDGETS = ({"ratio": 0.5}, {"units": 2}, {"images": 20}, {"coverage": 0.9})
DTYPES = (torch.bool, torch.uint8, torch.int32, torch.int64, torch.float16, torch.bfloat16, torch.float32)
DTYPES += (torch.float64, torch.complex64, torch.float8_e4m3fn, torch.uint64)
NUMBERS = (0, -1, 1, 2**31, -(2**31) - 1, 2**62, math.nan, math.inf, -math.inf, 1e308, -1e308, 0.5)
NAMES = ("BOOL", "U8", "I32", "I64", "U64", "F16", "BF16", "F64", "F8_E4M3", "F8_E8M0", "F4", "C64", "X", "")


def junk(chance: random.Random) -> Any:
    """A JSON value that nobody expects."""
    plain = [None, True, 0, -1, 2**31, 2**63, 10**4000, -(10**400), 1e308, 0.5, math.nan, math.inf, -math.inf, "", "x"]
    odd = ["x" * 10_000, "\x1b[31m\r\n\0", "\ud800", "\u202e", [], {}, [[]], {"": {}}, [1, "a", None], {"a": [1]}]
    return chance.choice([*plain, *odd, nested(chance.choice((3, 40, 400, 900)))])


def nested(levels: int) -> Any:
    """Lists in lists."""
    value: Any = "inside"
    for _ in range(levels):
        value = [value]
    return value


def selections() -> Iterator[Selection]:
    """Of classes, of clusters, of single images, and for two targets."""
    chance = torch.Generator().manual_seed(0)
    for kind, units in (("class", 6), ("cluster", 5), ("sample", 40)):
        assignments = torch.randint(units, (30,), generator=chance)
        votes = assignments.bincount(minlength=units).double()
        targets = [{"digest": "b" * 64, "images": 15}, {"digest": "c" * 64, "images": 15}]
        settings = {"method": "feature_mapping", "options": {"seed": 0}, "source_digest": "a" * 64, "targets": targets}
        settings |= {
            "several_targets": {"combine": "weighted_sum", "weights": [1.0, 2.0]},
            "surrogate_digest": "d" * 64,
        }
        settings["view"] = {"view": "EvalTransform", "image_size": 32}
        record = {"torch": "2", "seconds": {"vote": 0.5}, "source": "drawn", "targets": ["digits", "photos"]}
        record |= {"surrogates": ["w.safetensors"], "surrogate_seconds": 3.5, "skipped": ["a/b.png"], "target_seed": 0}
        classes = kind == "class"
        yield Selection(
            method="feature_mapping",
            unit_names=tuple(f"n{unit:08}" for unit in range(units)) if classes else (),
            ranking=votes.argsort(descending=True),
            votes=votes,
            scores=torch.rand(units, generator=chance),
            unit_of_sample=torch.arange(40) % units,
            assignments=assignments,
            settings=settings,
            metadata=record | {"image_size": 32} | ({"titles": list("uvwxyz")} if classes else {}),
            unit_kind=kind,
            target_votes=torch.stack([votes, votes.flip(0)]) if classes else torch.empty(0, units),
            covers_each_target=classes,
        )


# Bytes


def mutate_bytes(content: bytes, chance: random.Random) -> bytes:
    """Changes, inserts, removes or doubles bytes in a few places, or cuts the file off."""
    changed = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 8, 64))):
        place, count = chance.randrange(len(changed) + 1), chance.choice((1, 1, 4, 100))
        how = chance.randrange(5)
        if how == 0 and place < len(changed):
            changed[place] ^= chance.randrange(1, 256)
        elif how == 1:
            changed[place:place] = chance.randbytes(count)
        elif how == 2:
            del changed[place : place + count]
        elif how == 3:
            changed[place:place] = changed[place : place + count]
        elif chance.random() < 0.2:
            del changed[place:]
    return bytes(changed)


# The header of safetensors


def mutate_layout(content: bytes, chance: random.Random) -> bytes:
    """Changes what the file says of its tensors: length of the header, dtypes, shapes, places, and the metadata."""
    length = struct.unpack("<Q", content[:8])[0]
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    how = chance.randrange(7)
    name = chance.choice([key for key in header if key != "__metadata__"])
    if how == 0:
        huge = (0, 1, 2**63, 2**64 - 1, 10**8, 10**8 + 1, 2**32, length + 1, length - 1, length + 8)
        return struct.pack("<Q", chance.choice(huge)) + content[8:]
    if how == 1:
        header[name]["dtype"] = chance.choice(NAMES)
    elif how == 2:
        header[name]["shape"] = chance.choice(odd_shapes(header[name]["shape"], chance))
    elif how == 3:
        header[name]["data_offsets"] = [chance.choice((0, -1, 2**40, 2**64, len(data), 8)) for _ in range(2)]
    elif how == 4:
        header["__metadata__"][chance.choice([*header["__metadata__"], "more"])] = chance.choice(
            ("", "1", "x", 1, None)
        )
    elif how == 5:
        header[chance.choice(("more", "__metadata__", name))] = junk(chance)
    else:
        header[chance.choice(("other", ""))] = header.pop(name)
    text = json.dumps(header).encode()
    if chance.random() < 0.1:
        text = text.replace(b"ranking", chance.randbytes(7))
    return struct.pack("<Q", len(text)) + text + data


def odd_shapes(shape: list[int], chance: random.Random) -> list[Any]:
    """Shapes that do not belong to the data, and some that are as large."""
    same = [[*shape, 1], [1, *shape], [*shape, 1, 1]]
    empty = [[2**33, 0], [0, 2**62], [2**60, 2**60, 0], [0]]
    huge = [[2**40], [2**62, 2**62], [2**64], [-1], [1.5], ["1"], [[1]], nested(200), [], None, {}]
    return chance.choice((same, empty, huge))


# What is inside, with a checksum that matches


def mutate_content(content: bytes, chance: random.Random) -> bytes:
    """Changes the JSON header or the tensors; the checksum is made to match."""
    length = struct.unpack("<Q", content[:8])[0]
    metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    tensors, header = load(content), json.loads(metadata["header"])
    for _ in range(chance.choice((1, 1, 2, 3))):
        if chance.random() < 0.5:
            mutate_tensors(tensors, chance)
        else:
            header = mutate_json(header, chance)
    if chance.random() < 0.02:
        text = json.dumps(header)[:-1] + ', "deep": ' + "[" * 100_000 + "]" * 100_000 + "}"
        return save(tensors, {**metadata, "header": text})
    metadata["header"], metadata["checksum"] = json.dumps(header), digest_json([header, digest_tensors(tensors)])
    return save(tensors, metadata)


def mutate_json(value: Any, chance: random.Random) -> Any:
    """Replaces, removes, adds or wraps one value anywhere in it."""
    inner = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    if inner and chance.random() < 0.75:
        key = chance.choice(inner)
        value[key] = mutate_json(value[key], chance)
        return value
    how = chance.randrange(4)
    if how == 0 and inner:
        del value[chance.choice(inner)]
    elif how == 1 and isinstance(value, dict):
        value[chance.choice(("more", "seconds", "targets", "options", "titles", "\x1b[2J"))] = junk(chance)
    elif how == 1 and isinstance(value, list):
        value.append(junk(chance))
    elif how == 2:
        return [value] if chance.random() < 0.5 else {"a": value}
    else:
        return junk(chance)
    return value


def mutate_tensors(tensors: dict[str, Tensor], chance: random.Random) -> None:
    """Gives one tensor another dtype, shape or value, or removes or adds one."""
    name = chance.choice(sorted(tensors)) if tensors else "votes"
    tensor = tensors.get(name, torch.zeros(3))
    tensor = tensor.real.contiguous() if tensor.is_complex() else tensor
    how = chance.randrange(6)
    if how == 0:
        tensors[name] = tensor.to(chance.choice(DTYPES))
    elif how == 1:
        others = [
            tensor[None],
            tensor[..., None],
            tensor.repeat(*[2] * max(tensor.ndim, 1)),
            tensor[:-1] if tensor.ndim else tensor,
        ]
        others += [torch.zeros((), dtype=tensor.dtype), torch.zeros(0, dtype=tensor.dtype)]
        others += [torch.zeros(size, dtype=tensor.dtype) for size in ((2**33, 0), (0, 2**40), (0, 0))]
        tensors[name] = chance.choice(others).contiguous()
    elif how in (2, 3) and tensor.numel():
        number = chance.choice(NUMBERS)
        changed = tensor.clone().double() if isinstance(number, float) else tensor.clone()
        places = slice(None) if chance.random() < 0.3 else chance.randrange(tensor.numel())
        if changed.is_floating_point() or -(2**31) <= number < 2**31 or changed.dtype == torch.int64:
            changed.view(-1)[places] = number
        tensors[name] = changed.to(tensor.dtype) if chance.random() < 0.8 else changed
    elif how == 4:
        tensors.pop(name, None)
    else:
        tensors[chance.choice(("more", "votes", "target_votes"))] = torch.zeros(chance.choice((0, 1, 6, 1000)))


# The trial


def use(selection: Selection, path: Path) -> None:
    """Asks for everything; each answer is given or refused with an InputError."""
    questions: list[Callable[[], object]] = [partial(show, selection, str(path), None, 3)]
    questions += [partial(show, selection, str(path), Budget(**budget), 50) for budget in BUDGETS]
    questions += [partial(selection.keep, **budget) for budget in BUDGETS]
    names = ("digest", "titles", "skipped", "covered", "covered_by_target", "unit_sizes", "num_units")
    questions += [partial(getattr, selection, name) for name in names]
    questions += [partial(method, 0) for method in (selection.name, selection.explain, selection.example)]
    questions += [partial(selection.coverage, 1), partial(selection.diff, selection, Budget(units=1))]
    questions += [lambda: selection.unit(selection.name(0)), partial(selection.unit, "none")]
    questions += [partial(selection.require_source, "a" * 64, "here"), partial(selection.save, path)]
    with redirect_stdout(StringIO()):
        for question in questions:
            with suppress(InputError):
                question()
    shares = torch.stack([selection.covered, *selection.covered_by_target])
    assert bool(((shares >= 0) & (shares < 1 + 1e-9)).all()), "covers less than nothing or more than all"


def outcome(path: Path, origin: Selection | None) -> str:
    """What came of a file: ``refused``, ``works``, or what went wrong.

    Args:
        path: The file.
        origin: What it held, where a changed content must be noticed; None where the checksum was made to match.
    """
    try:
        selection = Selection.load(path)
    except InputError as error:
        return "refused" if str(error).startswith(f"{path}: ") else "refused without its name"
    except BaseException as error:  # panics of safetensors' Rust code are no Exception
        return f"load: {type(error).__name__}: {str(error)[:100]}"
    try:
        use(selection, path)
    except BaseException as error:
        return f"use: {type(error).__name__}: {str(error)[:100]}"
    if origin is None:
        return "works"
    same = selection.digest == origin.digest and selection.metadata == origin.metadata
    return "works, the same content" if same else "changed unnoticed"


def peak() -> float:
    """The most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Runs the trials and prints how many ended in which way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="JSON file to write")
    given = parser.parse_args()
    warnings.simplefilter("error")
    chance = random.Random(given.seed)  # noqa: S311 - no secret
    mutators = (mutate_bytes, mutate_layout, mutate_content, mutate_content)
    counts: dict[str, Counter[str]] = {mutator.__name__: Counter() for mutator in mutators}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.safetensors"
        origins = []
        for selection in selections():
            selection.save(path)
            origins.append((selection, path.read_bytes()))
            assert outcome(path, selection) == "works, the same content"
        base = peak()
        for trial in range(given.trials):
            mutator = mutators[trial % len(mutators)]
            origin, content = chance.choice(origins)
            while (mutated := mutator(content, chance)) == content:
                continue
            path.write_bytes(mutated)
            counts[mutator.__name__][outcome(path, None if mutator is mutate_content else origin)] += 1
    total = sum(counts.values(), Counter())
    failed = given.trials - sum(total[name] for name in ("refused", "works", "works, the same content"))
    result = {"trials": given.trials, "failed": failed, "peak memory above base, MB": round(peak() - base, 1)}
    result |= {name: dict(found.most_common()) for name, found in counts.items()}
    print(json.dumps(result, indent=1))
    if given.output:
        given.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
