"""Checks the downloaded source distribution against its pinned hash and unpacks it into an empty folder.

Usage: unpack.py PINNED DOWNLOADS TARGET; prints the folder of the suite. Fails when there is no such download.
"""

import hashlib
import pathlib
import re
import shutil
import sys
import tarfile

pinned, downloads, target = map(pathlib.Path, sys.argv[1:])
version, digest = re.search(r"^hvac==(\S+) --hash=sha256:([0-9a-f]{64})$", pinned.read_text(), re.M).groups()
archive = downloads / f"hvac-{version}.tar.gz"
found = hashlib.sha256(archive.read_bytes()).hexdigest()
if found != digest:
    sys.exit(f"{archive}: sha256 is {found}, and {digest} is pinned")
shutil.rmtree(target, ignore_errors=True)
with tarfile.open(archive) as bundle:
    if hasattr(tarfile, "data_filter"):
        bundle.extractall(target, filter="data")
    else:
        bundle.extractall(target)
print(target / f"hvac-{version}")
