"""Writes base.safetensors as loads.bp wants it, but for one flaw, named by the first word.
Beside each flaw stands what must be wrong: the header's length, its JSON, or what it says of the bytes that follow."""
import json
import struct
import sys

flaw = sys.argv[1]
shapes = {"fc1.weight": [4, 2], "fc1.bias": [4], "fc2.weight": [1, 4], "fc2.bias": [1]}
if flaw == "transposed":
    shapes["fc1.weight"] = [2, 4]
if flaw == "wrong-shape":
    shapes["fc2.weight"] = [1, 5]
if flaw == "no-tensor":
    del shapes["fc2.bias"]
header, end = {}, 0
for name, shape in shapes.items():
    size = 4 * shape[0] * (shape[1] if len(shape) > 1 else 1)
    header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
    end += size
data = struct.pack(f"<{end // 4}f", *[0.25 * (i % 7) - 0.5 for i in range(end // 4)])
if flaw == "overlap":
    header["fc1.bias"]["data_offsets"] = [16, 32]
    header["fc2.weight"]["data_offsets"] = [32, 48]
    header["fc2.bias"]["data_offsets"] = [48, 52]
    data = data[:52]
if flaw == "hole":
    for name in ("fc2.weight", "fc2.bias"):
        header[name]["data_offsets"] = [offset + 4 for offset in header[name]["data_offsets"]]
    data += b"\0\0\0\0"
if flaw == "wrong-dtype":
    header["fc1.bias"]["dtype"] = "I32"
if flaw == "unknown-dtype":
    header["fc1.bias"]["dtype"] = "F99"
if flaw == "not-finite":
    data = data[:36] + struct.pack("<f", float("nan")) + data[40:]
if flaw == "prefixed":
    header = {f"model.{name}": entry for name, entry in header.items()}
text = json.dumps(header)
if flaw == "duplicate-key":
    text = text.replace('"fc1.bias"', '"fc1.weight"')
if flaw == "not-json":
    text = text[:-1] + "]"
text = text.encode() + b" " * (-len(text) % 8)
length = len(text) if flaw != "header-beyond-file" else 1 << 40
content = struct.pack("<Q", length) + text + data
if flaw == "truncated":
    content = content[:-20]
if flaw == "few-bytes":
    content = content[:5]
if flaw == "more-bytes":
    content += b"more"
open("base.safetensors", "wb").write(content)
