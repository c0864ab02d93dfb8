"""Make `import test` find test.py here, and not the package `test` of the standard library.

Whoever imported that one first (some libraries use `test.support`) would otherwise decide what our tests test.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent

sys.path.insert(0, str(ROOT))
if Path(getattr(sys.modules.get("test"), "__file__", None) or ROOT / "test.py") != ROOT / "test.py":
    for name in [name for name in sys.modules if name.partition(".")[0] == "test"]:
        del sys.modules[name]
