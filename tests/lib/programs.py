"""Programs of others that drills run beside Sluice."""

import os
import shutil

import procs


def find(name, package):
    """(path, None), or (None, why not): on PATH, or where infra/scripts/unpack.sh lays those of PACKAGE."""
    unpacked = os.path.join(procs.ROOT, "build", "unpacked", "usr", "bin")
    path = shutil.which(name) or shutil.which(name, path=unpacked)
    return (path, None) if path else (None, "%s is not here (infra/scripts/unpack.sh, Debian package %s)" % (name, package))
