"""Checks a wheel and an sdist.

`check_wheel.py listings DIST`, in the checkout: the wheel holds the package, the sdist
all that git tracks, and neither holds anything else.
`python -I - < check_wheel.py`, where the wheel is installed: every module imports.
"""

import importlib
import pkgutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

# What a wheel must have, whatever git lists.
REQUIRED = {
    "vaejax/py.typed",
    "vaejax/datasets/bundled_data/README.md",
    "vaejax/datasets/bundled_data/king_james.txt.xz",
    "vaejax/datasets/bundled_data/mnist_images.idx.xz",
    "vaejax/datasets/bundled_data/mnist_labels.idx.xz",
}
LICENSES = {"LICENSE", "vaejax/datasets/bundled_data/README.md"}


def check_listings(dist: Path) -> None:
    """Fails where the wheel or the sdist is not what git tracks, or lacks a license."""
    command = ["git", "ls-files"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True)
    tracked = set(listed.stdout.splitlines())
    files = {name for name in tracked if name.startswith("vaejax/")}
    assert files >= REQUIRED, f"not in git: {REQUIRED - files}"

    wheel = set(zipfile.ZipFile(next(dist.glob("*.whl"))).namelist())
    assert files <= wheel, f"not in the wheel: {sorted(files - wheel)}"
    beside = {name.split("/")[0] for name in wheel - files}
    (info,) = beside  # nothing but the package and its metadata
    assert info.endswith(".dist-info"), f"in the wheel: {info}"
    licenses = {f"{info}/licenses/{name}" for name in LICENSES}
    assert licenses <= wheel, f"not in the wheel: {sorted(licenses - wheel)}"

    with tarfile.open(next(dist.glob("*.tar.gz"))) as archive:
        members = [member for member in archive if not member.isdir()]
        sdist = {member.name.partition("/")[2] for member in members}
    assert tracked <= sdist, f"not in the sdist: {sorted(tracked - sdist)}"
    made = {
        name
        for name in sdist - tracked
        if name not in ("PKG-INFO", "setup.cfg")
        and not name.startswith("vaejax.egg-info/")
    }
    assert not made, f"in the sdist, and not in git: {sorted(made)}"
    print(f"{len(files)} files of the package are in the wheel, among them:")
    print(*sorted(REQUIRED), sep="\n")
    print(f"all {len(tracked)} files that git tracks are in the sdist, and no others")


def check_imports() -> None:
    """Imports every module of every package; fails where one is missing or cannot."""
    import vaejax

    where = Path(vaejax.__file__)
    assert "site-packages" in where.parts, f"vaejax comes from {where}"
    found = list(pkgutil.walk_packages(vaejax.__path__, "vaejax."))
    for module in found:
        importlib.import_module(module.name)
    for module in ("vaejax", *(m.name for m in found if m.ispkg)):
        for name in importlib.import_module(module).__all__:
            getattr(importlib.import_module(module), name)
    packages = sum(module.ispkg for module in found)
    print(f"{len(found)} modules of {packages} packages import, from {where.parent}")


if sys.argv[1:2] == ["listings"]:
    check_listings(Path(sys.argv[2]))
else:
    check_imports()
