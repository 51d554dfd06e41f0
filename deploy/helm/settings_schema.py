"""Writes the part of the chart's values.schema.json that describes the sidecar's own settings.

    python deploy/helm/settings_schema.py

Run it after a change of `stopper.service.settings`; a test compares. What the chart sets by itself
(addresses, artifacts, engines, Redis, keys) is left out.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

FILE = Path(__file__).resolve().parent / "stopper" / "values.schema.json"
OF_THE_CHART = {
    "allow_open", "artifact_root", "artifacts", "host", "keys_file", "port", "redis", "upstreams",
}  # fmt: skip
KEPT = ("type", "enum", "pattern", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")


def settings_schema() -> dict[str, Any]:
    """Return the schema of the settings that a user of the chart may give."""
    from stopper.service.settings import ServeSettings

    whole = ServeSettings.model_json_schema()
    fields = {name: of for name, of in whole["properties"].items() if name not in OF_THE_CHART}
    return {
        "description": "Settings of the sidecar as in its file (docs/sidecar.md, Settings).",
        "type": "object",
        "additionalProperties": False,
        "properties": {name: plain(of, whole["$defs"]) for name, of in sorted(fields.items())},
    }


def plain(field: dict[str, Any], groups: dict[str, Any]) -> dict[str, Any]:
    """Return one field without titles, defaults and null, which Helm takes for "not given"."""
    choices = [choice for choice in field.get("anyOf", [field]) if choice.get("type") != "null"]
    (only,) = choices
    if "$ref" in only:
        group = groups[only["$ref"].rsplit("/", 1)[1]]
        inner = {name: plain(of, groups) for name, of in sorted(group["properties"].items())}
        return {"type": "object", "additionalProperties": False, "properties": inner}
    return {key: only[key] for key in KEPT if key in only}


def main() -> int:
    """Replace the part in the file."""
    schema = json.loads(FILE.read_text(encoding="utf-8"))
    schema["properties"]["settings"] = settings_schema()
    FILE.write_text(json.dumps(schema, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
