"""The site (`make docs`): Sphinx reads the Markdown where it lies, so links work as on a code host.

The source folder is the repository's root and this file's folder only holds the configuration:
a link from a page to the README, a licence or an example is right on a code host and on the site.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

project = "stopper"
author = "The stopper contributors"
project_copyright = author
version = release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

extensions = ["myst_parser"]
root_doc = "docs/index"
source_suffix = {".md": "markdown"}
include_patterns = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "docs/**.md",
    "examples/**README.md",
]
# Folders that are not even looked into.
exclude_patterns = [".*", "build", "dist", "tests", "**/__pycache__", "**/model", "**/artifact"]
myst_heading_anchors = 4  # as deep as headings go; slugs as on code hosts
smartquotes = False  # a command keeps its quotes

html_theme = "furo"
html_title = "stopper"
html_favicon = "site/favicon.svg"
html_static_path = ["site/static"]
html_css_files = ["pages.css"]
html_extra_path = ["site/root"]  # index.html, which leads to docs/index.html
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#1f6f43", "color-brand-content": "#1f6f43"},
    "dark_css_variables": {"color-brand-primary": "#7fd6a3", "color-brand-content": "#7fd6a3"},
}
