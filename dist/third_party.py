#!/usr/bin/env python3
"""Prints the licences of the crates in the binary, each text once with the crates that bring it.

Read from the crates' own files, at the versions of Cargo.lock; MIT and most others ask that the notice goes with every copy.
"""

import collections
import json
import pathlib
import subprocess

NAMES = ("LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE")

metadata = json.loads(subprocess.check_output([
    "cargo", "metadata", "--format-version=1", "--locked", "--filter-platform=x86_64-unknown-linux-gnu",
    "--manifest-path=host/Cargo.toml",
]))
packages = {package["id"]: package for package in metadata["packages"]}
nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
reached, queue = set(), [metadata["resolve"]["root"]]
while queue:
    node = queue.pop()
    if node not in reached:
        reached.add(node)
        # Crates of builds and tests are not in the binary.
        queue += [d["pkg"] for d in nodes[node]["deps"] if any(kind["kind"] is None for kind in d["dep_kinds"])]

texts, crates = collections.defaultdict(list), []
for package in sorted((packages[id] for id in reached), key=lambda package: (package["name"], package["version"])):
    if package["source"] is None:
        continue
    name = f"{package['name']} {package['version']}"
    crates.append(f"{name}: {package['license'] or package['license_file']}")
    for path in sorted(pathlib.Path(package["manifest_path"]).parent.iterdir()):
        if path.is_file() and path.name.upper().startswith(NAMES):
            texts[path.read_text(errors="replace").strip()].append(name)

print("The bireme binary contains these crates:\n")
print("\n".join(crates))
for text, names in texts.items():
    print(f"\n{'=' * 80}\n{', '.join(dict.fromkeys(names))}\n{'=' * 80}\n\n{text}")
