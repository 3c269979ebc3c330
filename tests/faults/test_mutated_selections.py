"""Selection files changed at random, most with a checksum that matches: refused by name, or of full use."""

import json
import math
import random
import resource
import struct
from contextlib import redirect_stdout, suppress
from io import StringIO

import pytest
import torch
from safetensors.torch import load, save

from tlprune.commands.show import show
from tlprune.errors import InputError
from tlprune.selection.ranking import Budget
from tlprune.selection.selection import Selection
from tlprune.storage.fingerprint import digest_json, digest_tensors

JUNK = [None, True, -1, 2**63, 10**4000, 1e308, math.nan, -math.inf, "", "\x1b[31m\r\n\0", "\ud800", [], {}, [[1]]]
SHAPES = [(), (0,), (6, 1), (2**33, 0), (0, 2**40), (3,), (7,)]
DTYPES = [torch.bool, torch.int32, torch.int64, torch.float16, torch.float32, torch.complex64, torch.float8_e4m3fn]


@pytest.fixture(scope="module")
def selection():
    votes = torch.tensor([3.0, 0.0, 1.0, 0.0, 2.0, 4.0])
    settings = {"method": "label_mapping", "options": {"seed": 0}, "source_digest": "a" * 64}
    settings |= {"targets": [{"digest": "b" * 64, "images": 10}], "surrogate_digest": "c" * 64}
    settings |= {"several_targets": {"combine": "union", "weights": None}, "view": {"view": "V", "image_size": 32}}
    record = {"seconds": {"vote": 0.5}, "source": "drawn", "targets": ["digits"], "surrogates": ["w.safetensors"]}
    return Selection(
        method="label_mapping",
        unit_names=tuple("abcdef"),
        ranking=votes.argsort(descending=True),
        votes=votes,
        scores=votes / 2,
        unit_of_sample=torch.arange(30) % 6,
        assignments=torch.tensor([0, 0, 0, 2, 4, 4, 5, 5, 5, 5]),
        settings=settings,
        metadata=record | {"skipped": ["x.png"], "titles": list("uvwxyz")},
        target_votes=torch.stack([votes, votes.flip(0)]),
        covers_each_target=True,
    )


@pytest.fixture(scope="module")
def whole(selection, tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "s.safetensors"
    selection.save(path)
    return path.read_bytes()


def header_of(content):
    """What a safetensors file says of itself, and the tensors' bytes."""
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def with_header(header, data):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def with_content(content, change):
    """The file with its JSON header and tensors changed, and a checksum that matches."""
    metadata, tensors = header_of(content)[0]["__metadata__"], load(content)
    header = json.loads(metadata["header"])
    header = change(header, tensors) or header
    metadata |= {"header": json.dumps(header), "checksum": digest_json([header, digest_tensors(tensors)])}
    return save(tensors, metadata)


def changed_json(value, chance):
    """One value anywhere in it replaced, removed or wrapped."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    if keys and chance.random() < 0.8:
        key = chance.choice(keys)
        if chance.random() < 0.1:
            del value[key]
        else:
            value[key] = changed_json(value[key], chance)
        return value
    return chance.choice([*JUNK, [value], {"a": value}])


def change_tensors(tensors, chance):
    name = chance.choice(sorted(tensors))
    tensor = tensors[name]
    how = chance.randrange(4)
    if how == 0:
        tensors[name] = tensor.to(chance.choice(DTYPES))
    elif how == 1:
        tensors[name] = torch.zeros(chance.choice(SHAPES), dtype=tensor.dtype)
    elif how == 2:
        odd = [math.nan, math.inf, -1.0, 1e308] if tensor.is_floating_point() else [-1, 6, 2**31 - 1]
        tensor.view(-1)[chance.randrange(tensor.numel())] = chance.choice(odd)
    else:
        tensors[chance.choice(("more", name))] = tensors.pop(name)


def mutated(content, chance):
    """A file changed in its bytes, in its tensors' layout, in its JSON header, or in its tensors."""
    how = chance.randrange(5)
    if how == 0:
        changed, place = bytearray(content), chance.randrange(len(content))
        changed[place : place + chance.choice((0, 1, 5))] = chance.randbytes(chance.choice((0, 1, 5)))
        return bytes(changed)
    if how == 1:
        header, data = header_of(content)
        entry = header[chance.choice(sorted(header.keys() - {"__metadata__"}))]
        entry[chance.choice(sorted(entry))] = chance.choice([*JUNK, [2**62, 2**62], [-1, 8], "F4", "I32"])
        return with_header(header, data)
    if how == 2:
        return with_content(content, lambda header, tensors: change_tensors(tensors, chance))
    return with_content(content, lambda header, tensors: changed_json(header, chance))


def use(selection, path):
    """All that a Selection tells, each answer given or refused."""
    questions = [lambda: show(selection, str(path), None, 3), lambda: selection.unit(selection.name(0))]
    questions += [lambda: selection.covered_by_target, lambda: selection.example(0), lambda: selection.explain(0)]
    for budget in ({"ratio": 0.5}, {"units": 2}, {"images": 9}, {"coverage": 0.9}):
        questions.append(lambda budget=budget: show(selection, str(path), Budget(**budget), 9))
        questions.append(lambda budget=budget: selection.keep(**budget))
    for question in questions:
        with suppress(InputError), redirect_stdout(StringIO()):
            question()


def test_mutated_files_are_refused_by_name_or_of_use(whole, tmp_path):
    path, chance = tmp_path / "s.safetensors", random.Random(0)
    path.write_bytes(whole)
    use(Selection.load(path), path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused = 0
    for _ in range(500):
        path.write_bytes(mutated(whole, chance))
        try:
            selection = Selection.load(path)
        except InputError as error:
            assert str(error).startswith(f"{path}: ")
            refused += 1
            continue
        use(selection, path)
    assert 350 < refused < 500
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500 * 1024  # in kB


@pytest.mark.parametrize("length", [0, 1, 2**32, 10**8, 2**63, 2**64 - 1])
def test_a_header_that_claims_another_length_is_refused(whole, tmp_path, length):
    (tmp_path / "s.safetensors").write_bytes(struct.pack("<Q", length) + whole[8:])
    with pytest.raises(InputError, match="s.safetensors: damaged or not a selection"):
        Selection.load(tmp_path / "s.safetensors")


@pytest.mark.parametrize("levels", [40, 900, 100_000])
def test_deep_nesting_is_refused(whole, tmp_path, levels):
    metadata, tensors = header_of(whole)[0]["__metadata__"], load(whole)
    text = metadata["header"].replace('"seed": 0', f'"seed": {"[" * levels}{"]" * levels}')
    if levels < 100:
        metadata["checksum"] = digest_json([json.loads(text), digest_tensors(tensors)])
    (tmp_path / "s.safetensors").write_bytes(save(tensors, {**metadata, "header": text}))
    with pytest.raises(InputError, match=r"s\.safetensors: (its header has more than 32 levels|damaged)"):
        Selection.load(tmp_path / "s.safetensors")


@pytest.mark.parametrize(
    ("part", "key", "value", "message"),
    [
        ("settings", "options", [], "`settings.options` must be an object, got list"),
        ("settings", "targets", [{"digest": "b"}], r"`settings.targets\[0\]` lacks `images`"),
        (
            "settings",
            "targets",
            [{"digest": "b", "images": True}],
            r"`.*\[0\].images` must be a whole number, got bool",
        ),
        ("record", "seconds", {"vote": 10**400}, "`record.seconds.vote` must be a number, got int"),
        ("record", "targets", [3], r"`record.targets\[0\]` must be text, got int"),
        ("record", "image_size", math.inf, "`record.image_size` must be a whole number, got float"),
    ],
)
def test_what_the_commands_use_is_looked_at(whole, tmp_path, part, key, value, message):
    def change(header, tensors):
        header[part][key] = value

    (tmp_path / "s.safetensors").write_bytes(with_content(whole, change))
    with pytest.raises(InputError, match=f"s.safetensors: {message}"):
        Selection.load(tmp_path / "s.safetensors")


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("ranking", torch.zeros(2**33, 0, dtype=torch.int64), "cannot have the shape"),
        ("ranking", torch.zeros(0, dtype=torch.int64), "must rank at least one unit"),
        ("unit_of_sample", torch.full((30,), 2**32), "must be torch.int32, got torch.int64"),
        ("votes", torch.full((6,), math.nan, dtype=torch.float64), "votes .* must be finite and not negative"),
        ("votes", torch.full((6,), 1e308, dtype=torch.float64), "votes .* must be finite and not negative"),
        ("scores", torch.full((6,), math.inf, dtype=torch.float64), "scores .* must be finite"),
    ],
)
def test_tensors_that_would_fail_later_are_refused(whole, tmp_path, name, tensor, message):
    def change(header, tensors):
        tensors[name] = tensor

    (tmp_path / "s.safetensors").write_bytes(with_content(whole, change))
    with pytest.raises(InputError, match=f"s.safetensors: .*{message}"):
        Selection.load(tmp_path / "s.safetensors")


def test_a_unit_without_images_has_no_example(whole, tmp_path):
    def change(header, tensors):
        tensors["unit_of_sample"] = torch.zeros(30, dtype=torch.int32)

    (tmp_path / "s.safetensors").write_bytes(with_content(whole, change))
    selection = Selection.load(tmp_path / "s.safetensors")
    with pytest.raises(InputError, match="v: no image of the source belongs to it"):
        selection.example(1)
