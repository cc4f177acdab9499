"""Extensions of installed distributions: found when they are needed, and no trouble to others when they fail."""

from __future__ import annotations

import pytest
from api.outsiders import ARCHITECTURE, OP, TYPE, distribute, python, write

from forge.language import interpreted

pytestmark = [pytest.mark.cpu, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]


def test_installed_extensions_are_found_when_a_registry_is_read(tmp_path):
    distribute(tmp_path, "cubes", OP)
    distribute(tmp_path, "mine", TYPE)
    distribute(tmp_path, "like", ARCHITECTURE)
    done = python(
        """
import forge
from forge.graph.types import dtype
assert not {"cubes", "mine", "like"} & set(sys.modules), "importing Forge imports no extension"
forge.kernels.swiglu
assert "cubes" not in sys.modules, "what is found in Forge itself needs no extension"
assert dtype("mine4").gguf == 901
assert forge.kernels.cube.name == "cube"
from forge.models import architecture
from forge.quant import formats
print(architecture("llamalike").name, formats()["mine4"].name)
""",
        tmp_path,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "llamalike mine4\n", "")


def test_an_extension_that_fails_is_reported_and_breaks_nothing_else(tmp_path):
    distribute(tmp_path, "cubes", OP)
    distribute(tmp_path, "broken", OP.replace("cube", "sixth") + "\nimport no_such_module_anywhere\n")
    distribute(tmp_path, "clashing", OP.replace("cube", "rope"))
    distribute(tmp_path, "absent", "", module="not_there_at_all")
    done = python(
        """
import forge
from forge.errors import UnsupportedError
from forge.models import architecture
for use in (lambda: architecture("unheard-of"), lambda: forge.kernels.sixth):
    try:
        use()
    except (AttributeError, UnsupportedError) as error:
        print(error)
assert forge.kernels.cube.name == "cube" and forge.kernels.rope.key == "forge__kernels__rope__rope"
""",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    for text in (done.stderr, *done.stdout.split("no op is called")):
        assert "the extension broken_things of broken 1.2 does not load" in text, text
        assert "No module named 'no_such_module_anywhere'" in text
        assert "repair or uninstall broken 1.2" in text
        assert "the extension clashing_things of clashing 1.2 does not load" in text and "op rope is defined in" in text
        assert "the extension absent_things of absent 1.2 does not load" in text
    assert done.stderr.count("does not load") == 3, "once each"


def test_loading_that_is_interrupted_begins_again_when_a_registry_is_next_read(tmp_path):
    distribute(tmp_path, "absent", "", module="not_there_at_all")
    pressed = "import builtins\nif not hasattr(builtins, 'pressed'):\n    builtins.pressed = True\n"
    distribute(tmp_path, "before", OP)
    distribute(tmp_path, "interrupted", f"{pressed}    raise KeyboardInterrupt\n{TYPE}")
    distribute(tmp_path, "later", ARCHITECTURE)
    done = python(
        """
from forge.extensions import EXTENSIONS
from forge.models import architecture
try:
    architecture("llamalike")
except KeyboardInterrupt:
    print("interrupted", end=" ")
from forge.graph.types import dtype
import forge
print(architecture("llamalike").name, dtype("mine4").gguf, forge.kernels.cube.name, len(EXTENSIONS.failures))
""",
        tmp_path,
    )
    assert (done.returncode, done.stdout) == (0, "interrupted llamalike 901 cube 1\n"), done.stderr


def test_an_extension_may_read_the_registries_while_it_is_imported(tmp_path):
    reading = "from forge.kernels import load\nfrom forge.quant import formats\nKNOWN = len(load()), len(formats())\n"
    distribute(tmp_path, "reading", reading + OP)
    done = python("import forge\nforge.kernels.cube\nimport reading\nprint(min(reading.KNOWN) > 9)\n", tmp_path)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_the_command_line_takes_files(tmp_path):
    path = write(tmp_path, "cubes.py", OP)
    for arguments, shown in (
        (["verify", "--op", "cube", "--target", "cpu"], "cube.cube_torch"),
        (["bench", "ops", "--op", "cube", "--target", "cpu"], "cube_torch"),
    ):
        call = ["--register", str(path), *arguments]
        done = python(f"from forge.cli import main\nsys.exit(main({call}))")
        assert done.returncode == 0 and shown in done.stdout, done.stdout + done.stderr
        done = python(f"from forge.cli import main\nsys.exit(main({arguments}))")
        assert done.returncode == 2 and "cube" in done.stderr
