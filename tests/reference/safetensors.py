"""Reads and writes safetensors with the standard library alone, apart from bpc's own reader: an 8-byte little-endian
length, a JSON header padded with spaces to a multiple of 8 bytes, then the tensors' bytes without a gap."""
import json
import struct

FORMATS = {"F32": ("f", 4), "F64": ("d", 8), "I64": ("q", 8)}


def count_of(shape):
    count = 1
    for extent in shape:
        count *= extent
    return count


def write(path, tensors, metadata, dtype="F32"):
    """tensors: {name: (shape, flat list of numbers)}, written in this order; (shape, list, dtype) where one has its own."""
    header, data = {"__metadata__": metadata}, b""
    for name, (shape, values, *own) in tensors.items():
        assert len(values) == count_of(shape), name
        kind = own[0] if own else dtype
        letter = FORMATS[kind][0]
        piece = struct.pack(f"<{len(values)}{letter}", *values)
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [len(data), len(data) + len(piece)]}
        data += piece
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


def read(path):
    """({name: (shape, flat list)}, metadata). Raises ValueError where the file is not what the format allows."""
    with open(path, "rb") as file:
        content = file.read()
    if len(content) < 8:
        raise ValueError(f"{path}: shorter than 8 bytes")
    (length,) = struct.unpack_from("<Q", content)
    if length > len(content) - 8:
        raise ValueError(f"{path}: a header of {length} bytes in a file of {len(content)}")

    def unique(pairs):
        if len({key for key, _ in pairs}) != len(pairs):
            raise ValueError(f"{path}: a key twice")
        return dict(pairs)

    header = json.loads(content[8 : 8 + length], object_pairs_hook=unique)
    metadata = header.pop("__metadata__", {})
    if not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError(f"{path}: metadata that is not text")
    data, tensors, end = content[8 + length :], {}, 0
    for name, entry in sorted(header.items(), key=lambda pair: pair[1]["data_offsets"]):
        letter, size = FORMATS[entry["dtype"]]
        begin, stop = entry["data_offsets"]
        count = count_of(entry["shape"])
        if begin != end or stop - begin != count * size:
            raise ValueError(f"{path}: '{name}' lies at {begin}..{stop}, expected {end}..{end + count * size}")
        tensors[name] = (entry["shape"], list(struct.unpack_from(f"<{count}{letter}", data, begin)))
        end = stop
    if end != len(data):
        raise ValueError(f"{path}: {len(data) - end} bytes belong to no tensor")
    return tensors, metadata
