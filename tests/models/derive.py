"""Make tiny-code-Q8_0.gguf from tiny-code-f16.gguf with the `gguf` package's own quantizer.

llama.cpp's quantizer gives the same bytes (compared once, tensor by tensor), so the repository need not carry both.
"""

from __future__ import annotations

import os
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter

FOLDER = Path(__file__).parent
Q8_0 = GGMLQuantizationType.Q8_0
FILE_TYPE = 7  # LLAMA_FTYPE_MOSTLY_Q8_0


def main() -> None:
    """Write the file beside its source; through a temporary name, so that a half-written one is never seen."""
    reader = GGUFReader(FOLDER / "tiny-code-f16.gguf")
    path = FOLDER / "tiny-code-Q8_0.gguf"
    unfinished = path.with_suffix(f".{os.getpid()}")
    writer = GGUFWriter(unfinished, arch=str(reader.fields["general.architecture"].contents()))
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        value = FILE_TYPE if field.name == "general.file_type" else field.contents()
        inner = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, value, field.types[0], sub_type=inner)
    writer.add_quantization_version(2)
    for tensor in reader.tensors:
        data = np.asarray(tensor.data)
        if tensor.tensor_type == GGMLQuantizationType.F16:
            writer.add_tensor(tensor.name, gguf.quants.quantize(data.astype(np.float32), Q8_0), raw_dtype=Q8_0)
        else:
            writer.add_tensor(tensor.name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    unfinished.rename(path)


if __name__ == "__main__":
    main()
