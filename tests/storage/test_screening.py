"""S1: bombs in files of torch.save end in one sentence, at once and without the memory."""

import io
import pickle
import resource
import time
import zipfile

import pytest
import torch

from sslbench.checkpoints.load import load_backbone
from sslbench.checkpoints.pickles import read_pickle
from sslbench.errors import UserError

FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def save(path, value, zipped=True):
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    return path


def with_pickle(path, instructions):
    """A file of torch.save whose pickle is `instructions`."""
    whole = io.BytesIO()
    torch.save({"a": torch.ones(1)}, whole)
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, instructions if name.endswith("data.pkl") else old.read(name))
    return path


def refused(path, match):
    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(UserError, match=match) as error:
        read_pickle(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB
    assert time.process_time() - begun < 60  # a slow machine took 26 s by the clock
    with pytest.raises(UserError):
        load_backbone(path)


@FORMATS
@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(1).expand(4_000_000_000),
        torch.ones(1).expand(60_000, 70_000),
        torch.ones(64).as_strided((10**6, 64), (0, 1)),
        torch.ones(8)[2:3].expand(10**9),
    ],
    ids=["expanded", "matrix", "strided", "part"],
)
def test_a_tensor_of_more_elements_than_are_stored(tmp_path, zipped, tensor):
    path = save(tmp_path / "x.pth", {"patch_embed.proj.weight": tensor}, zipped)
    refused(path, r"holds a tensor of shape \(.*\) without storing that many numbers; save it cont")


@pytest.mark.parametrize(
    "hide", [lambda t: {"a": [{"b": (t,)}]}, lambda t: torch.nn.Parameter(t, False), lambda t: [t]]
)
def test_wherever_it_hides(tmp_path, hide):
    value = {"a": hide(torch.ones(1).expand(4_000_000_000))}
    refused(save(tmp_path / "x.pth", value), "without storing that many numbers")


def test_one_storage_for_ever_so_many_tensors(tmp_path):
    whole = torch.ones(100_000)
    value = {str(k): whole.view(-1) for k in range(100)}
    refused(save(tmp_path / "x.pth", value), "without storing that many numbers")


def test_tensors_that_share_their_storage_as_usual(tmp_path):
    whole = torch.arange(100.0)
    value = {"teacher": {"a": whole, "b": whole[20:30]}, "student": {"a": whole.view(10, 10).T}}
    found = read_pickle(save(tmp_path / "x.pth", value))
    assert torch.equal(found["student"]["a"], whole.view(10, 10).T)
    assert (
        read_pickle(save(tmp_path / "y.pth", {"a": whole[::2], "b": whole[:0]}))["b"].numel() == 0
    )


def test_a_deflated_file(tmp_path):
    stored = save(tmp_path / "x.pth", {"a": torch.zeros(30_000_000)})
    with (
        zipfile.ZipFile(stored) as old,
        zipfile.ZipFile(tmp_path / "y.pth", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    assert (tmp_path / "y.pth").stat().st_size < 200_000
    refused(tmp_path / "y.pth", "has compressed parts, which torch.save does not write")


def test_parts_that_overlap(tmp_path):
    path = save(tmp_path / "x.pth", {"a": torch.zeros(1000), "b": torch.ones(1000)})
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        first, second = (i for i in archive.infolist() if "/data/" in i.filename)
    place = data.rindex(second.filename.encode()) - 4  # where the directory says where it begins
    data[place : place + 4] = first.header_offset.to_bytes(4, "little")
    data[place - 22 : place - 14] = 2 * (50_000_000).to_bytes(4, "little")  # its two sizes
    path.write_bytes(data)
    refused(path, "has parts that overlap")


@pytest.mark.parametrize("elements", [10**3, 2**33, 2**62])
def test_a_storage_larger_than_its_part(tmp_path, elements):
    """Four bytes that are said to be so many would be read past their end."""
    whole = io.BytesIO()
    torch.save({"a": torch.ones(1)}, whole)
    with zipfile.ZipFile(whole) as archive:
        plain = archive.read(next(n for n in archive.namelist() if n.endswith("data.pkl")))
    count = b"\x8a\x09" + elements.to_bytes(9, "little")
    changed = plain.replace(b"cpuq\x06K\x01t", b"cpuq\x06" + count + b"t")
    assert changed != plain
    refused(with_pickle(tmp_path / "x.pth", changed), "its tensors are larger than the file")


def nested(depth, last=b"."):
    """{((..., ...), (..., ...)): 1}: a tuple of twice the one before, `depth` times."""
    twice = b"".join(b"q%ch%c\x86" % (k, k) for k in range(depth))
    return b"\x80\x02}(" + b")" + twice + b"K\x01u" + last


def test_a_key_whose_hash_has_no_end(tmp_path):
    refused(with_pickle(tmp_path / "x.pth", nested(60)), "asks for more memory or time than")


def test_a_key_inside_a_list_and_a_chain_without_end(tmp_path):
    inside = nested(60)[4:-3]  # the tuple alone
    listed = b"\x80\x02ccollections\nCounter\n(](" + inside[1:] + b"ett" + b"R."
    refused(with_pickle(tmp_path / "x.pth", listed), "asks for more memory or time than|damaged")
    chain = b"\x80\x02}(" + b")" + b"\x85" * 200_000 + b"K\x01u."
    refused(with_pickle(tmp_path / "y.pth", chain), "asks for more memory or time than")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [(b"__builtin__\nbytearray", b"\x8a\x05\x00\x00\x00\x00\x10"),
     (b"torch\nFloatTensor", b"\x8a\x05\x00\x00\x00\x00\x10"),
     (b"torch\nTensor", b"J\x00\x00\x00\x70J\x00\x00\x00\x70\x86")],
)  # fmt: skip
def test_what_makes_room_for_as_much_as_it_is_told(tmp_path, name, arguments):
    tuple_of = b"" if arguments.endswith(b"\x86") else b"\x85"
    code = b"\x80\x02}(X\x01\x00\x00\x00ac" + name + b"\n" + arguments + tuple_of + b"Ru."
    refused(with_pickle(tmp_path / "x.pth", code), "builds a .* of an arbitrary size")


def test_instructions_without_end(tmp_path):
    refused(with_pickle(tmp_path / "x.pth", b"\x80\x02](" + b"N" * 2**23 + b"e."), "asks for more")
    path = save(tmp_path / "y.pth", {"a": [0] * 2**21}, zipped=False)
    refused(path, "asks for more memory or time than")


def test_the_largest_checkpoints_pass_quickly(tmp_path):
    """Teacher, student and optimiser of a ViT-g: 40 blocks of 14 tensors, four times."""
    names = [f"blocks.{b}.{k}" for b in range(40) for k in range(14)]
    networks = [{name: torch.ones(3) for name in names} for _ in range(2)]
    state = {k: {"step": 3, "m": torch.ones(3), "v": torch.ones(3)} for k in range(len(names))}
    value = {"teacher": networks[0], "student": networks[1], "optimizer": {"state": state}}
    path = save(tmp_path / "x.pth", value)
    begun = time.process_time()
    assert read_pickle(path)["teacher"].keys() == set(names)
    assert time.process_time() - begun < 5


def test_no_pickle_of_python_is_run_by_looking(tmp_path):
    code = f"import os; os.system('touch {tmp_path}/ran')"
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"a": eval}) + code.encode())
    with pytest.raises(UserError):
        read_pickle(tmp_path / "x.pkl")
    assert not (tmp_path / "ran").exists()
