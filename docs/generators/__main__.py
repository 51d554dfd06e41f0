"""``python -m docs.generators`` (`make references`): write the reference pages."""

from __future__ import annotations

import sys

from docs.generators.pages import FOLDER, PAGES, page


def main() -> None:
    """Write every page that differs from what the code says now."""
    FOLDER.mkdir(exist_ok=True)
    for name in PAGES:
        file, text = FOLDER / name, page(name)
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")
            sys.stdout.write(f"wrote {file}\n")


if __name__ == "__main__":
    main()
