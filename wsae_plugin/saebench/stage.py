"""The folder that SAEBench runs in: it finds models and data sets by name in the working directory.

So a local folder can stand under a name that says nothing of this machine, what SAEBench writes
beside itself stays in one place, and `git rev-parse` there cannot name the user's own repository.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Generator
from pathlib import Path

from wsae_plugin.replaced import replaced_items


class Stage:
    """A folder with what SAEBench looks up by name.

    Args:
        folder: Made if it is not there; absolute from here on. Links in it are removed.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder.resolve()
        # A folder that came from elsewhere may have some that lead anywhere; ours are made anew.
        for link in [path for path in self.folder.rglob("*") if path.is_symlink()]:
            link.unlink()

    def put(self, name: str, path: Path) -> None:
        """Let `path`, a file or folder, be found as `name`, such as `owner/model`."""
        place, path = self.folder / name, path.resolve()
        if place.is_symlink() and place.resolve() == path:
            return
        self.clear(name)
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            place.symlink_to(path, target_is_directory=path.is_dir())
        except OSError:  # Windows without the privilege
            (shutil.copytree if path.is_dir() else shutil.copy2)(path, place)

    def clear(self, name: str) -> None:
        """Remove what stands under `name`, if anything does; never what a link points to."""
        place = self.folder / name
        if place.is_symlink() or place.is_file():
            place.unlink()
        elif place.is_dir():
            shutil.rmtree(place)

    @contextlib.contextmanager
    def entered(self) -> Generator[None]:
        """Be in the folder, and see no repository above it."""
        before = Path.cwd()
        with replaced_items(os.environ, {"GIT_CEILING_DIRECTORIES": str(self.folder.parent)}):
            os.chdir(self.folder)
            try:
                yield
            finally:
                os.chdir(before)
