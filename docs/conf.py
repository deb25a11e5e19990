"""How Sphinx builds the site of these pages: `make docs`.

The pages are plain Markdown, so that they read as well on a code host; only the table
of contents, `index.rst`, is the site's. Nothing is fetched by who reads the site.
"""

from __future__ import annotations

project = "pending-flags"
author = "the authors of pending-flags"
project_copyright = author

extensions = ["myst_parser"]
root_doc = "index"
exclude_patterns = ["README.md", "deploy", "**/.venv", "**/var"]  # of examples that ran
nitpicky = True

#: A link to a heading (`flow.md#the-columns-of-a-flag`) is checked as on a code host.
myst_heading_anchors = 3

html_theme = "furo"
html_title = "pending-flags"
html_copy_source = False
html_show_sphinx = False
pygments_style = "default"
pygments_dark_style = "github-dark"
