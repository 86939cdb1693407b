"""Write the bill of materials of an installed gliorun: libraries, licences, and the models in it.

Needs `pip install cyclonedx-bom`, which may be in another environment than gliorun.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

FORMAT_VERSION = "1.6"
"""Version of CycloneDX: from 1.5 on a model is a component of its own type."""
ASK = """
import json
from gliorun import __version__
from gliorun.model import engine, shipped
from gliorun.model.card import sha256_of
def told(path):
    card = engine.open_model(path).card
    return {"name": path.stem, "description": card.name, "use": card.intended_use,
            "source": card.source_sha256, "weights": card.weights_sha256,
            "graph": sha256_of(path), "data": card.training.get("data", [])}
print(json.dumps({"version": __version__, "models": [told(p) for p in shipped.models().values()]}))
"""
"""Run by the Python that gliorun is installed for."""


def run(*command: str | Path) -> dict[str, Any]:
    """Run a program and return the JSON that it prints; leave with its last line if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    try:
        if done.returncode == 0:
            return dict(json.loads(done.stdout))
    except ValueError:
        pass
    reason = (done.stderr.strip() or "is no Python").splitlines()[-1]
    sys.exit(f"{command[0]}: {reason}; name the Python that gliorun is installed for")


def component(model: dict[str, Any], version: str) -> dict[str, Any]:
    """Return a model as a component: its two files by hash, its use, and the licences of its data.

    The hash of the component is that of its weights, by which `gliorun --version` and every run
    record name the model.
    """
    files = [("xml", model["graph"]), ("bin", model["weights"])]
    licences = sorted({str(part.get("licence", "unknown")) for part in model["data"]})
    return {
        "type": "machine-learning-model",
        "bom-ref": f"gliorun-model-{model['name']}",
        "group": "gliorun",
        "name": model["name"],
        "version": version,
        "description": f"{model['description']}. {model['use']}",
        "licenses": [{"license": {"name": "LicenseRef-gliorun-weights: non-commercial research"}}],
        "hashes": [{"alg": "SHA-256", "content": model["weights"]}],
        "components": [
            {
                "type": "file",
                "bom-ref": f"gliorun-model-{model['name']}-{suffix}",
                "name": f"gliorun/models/{model['name']}.{suffix}",
                "hashes": [{"alg": "SHA-256", "content": sha256}],
            }
            for suffix, sha256 in files
        ],
        "properties": [
            {"name": "gliorun:keras_sha256", "value": model["source"]},
            *({"name": "gliorun:licence_of_training_data", "value": text} for text in licences),
        ],
    }


def bill(python: Path) -> dict[str, Any]:
    """Return the bill of materials of the environment of an interpreter."""
    models = run(python, "-c", ASK)
    values = run(
        sys.executable, "-m", "cyclonedx_py", "environment", str(python),
        "--spec-version", FORMAT_VERSION, "--output-format", "JSON",
    )  # fmt: skip
    for part in values["components"]:  # a folder of this machine is of no use elsewhere
        links = [
            link
            for link in part.get("externalReferences", [])
            if not link["url"].startswith("file:")
        ]
        part["externalReferences"] = links
    parts = [component(model, models["version"]) for model in models["models"]]
    values["components"] += parts
    for dependency in values["dependencies"]:
        if dependency["ref"].startswith("gliorun=="):
            refs = [part["bom-ref"] for part in parts]
            dependency["dependsOn"] = [*dependency.get("dependsOn", []), *refs]
    values["dependencies"] += [{"ref": part["bom-ref"]} for part in parts]
    return values


def main() -> None:
    """Read the command line, write the bill and print a summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("python", type=Path, help="that gliorun is installed for: .venv/bin/python")
    parser.add_argument("--out", type=Path, default=Path("sbom.json"), help="(%(default)s)")
    asked = parser.parse_args()
    if find_spec("cyclonedx_py") is None:
        sys.exit(f"{sys.executable}: has no cyclonedx-bom; 'pip install cyclonedx-bom' adds it")
    if not asked.python.is_file():
        sys.exit(f"{asked.python}: no such file; name a Python, as .venv/bin/python")
    values = bill(asked.python)
    partial = asked.out.with_name(f".{asked.out.name}.partial")
    try:
        partial.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
        partial.replace(asked.out)
    except OSError as error:
        sys.exit(f"{asked.out}: cannot be written ({error.strerror}); name another file with --out")
    models = sum(part["type"] == "machine-learning-model" for part in values["components"])
    print(f"{asked.out}: {len(values['components']) - models} libraries, {models} models")


if __name__ == "__main__":
    main()
