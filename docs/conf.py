"""The documents as a website, by ``make docs``. The source folder is the project's root: links work as on GitHub."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from sphinx.application import Sphinx

from salt_ray import __version__, config
from salt_ray.section import Section

ROOT = Path(__file__).parents[1]
HOME = "docs/index"
# A section of the home page, its lines "- [TITLE](PAGE.md): ..." are what the navigation shows.
SECTION = re.compile(r"^## ([^\n]+)\n(.+?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
ENTRY = re.compile(r"^- \[(.+?)\]\((.+?)\.md\)", re.MULTILINE)

project, author, copyright = "salt-ray", "the authors of salt-ray", "the authors of salt-ray, MIT licence"
release = version = __version__
root_doc = HOME
include_patterns = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**", "experiments/*.md", "benchmarks/*.md"]
exclude_patterns = ["docs/site"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
suppress_warnings = ["misc.highlighting_failure"]  # blocks that mix a command with what it prints
highlight_language = "none"

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_use_rtype = False

html_theme = "pydata_sphinx_theme"
html_title = "salt-ray"
html_show_sourcelink = False
html_copy_source = False
html_static_path = ["site/static"]
html_css_files = ["salt-ray.css"]
html_extra_path = ["site/index.html"]  # the root of the site leads to its home page
templates_path = ["site/templates"]
html_sidebars = {"**": ["pages.html"]}
html_theme_options = {
    "navbar_center": [],  # all pages are in the sidebar
    "navbar_persistent": ["search-button"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
}


def setup(app: Sphinx) -> None:
    app.connect("source-read", add_commands)
    app.connect("source-read", add_navigation)
    app.connect("autodoc-skip-member", skip_machinery)
    app.connect("autodoc-process-signature", without_fields)
    app.connect("autodoc-process-docstring", add_default, priority=400)  # before napoleon


def add_commands(app: Sphinx, name: str, source: list[str]) -> None:
    """Every command and option, by Typer from the command line itself."""
    if name == "docs/reference/commands":
        words = [sys.executable, "-m", "typer", "salt_ray.cli.main", "utils", "docs", "--name", "salt-ray"]
        page = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        source[0] += "\n#" + page.lstrip()


def add_navigation(app: Sphinx, name: str, source: list[str]) -> None:
    """The navigation is the home page's own lists of links, section by section."""
    if name == HOME:
        for title, body in SECTION.findall(source[0]):
            pages = "\n".join(f"{text} <{page}>" for text, page in ENTRY.findall(body))
            source[0] += f"\n:::{{toctree}}\n:hidden:\n:caption: {title}\n\n{pages}\n:::\n"


def skip_machinery(app: Sphinx, kind: str, name: str, member: object, skip: bool, options: object) -> bool | None:
    """Of a settings class the page shows fields; pydantic's own names and what reads old files are not for readers."""
    return True if name.startswith("model_") or name in ("removed", "renamed") else None


def without_fields(app: Sphinx, kind: str, name: str, member: object, *signature: object) -> tuple[str, None] | None:
    """A settings class is shown without its signature, which would repeat every field."""
    return ("", None) if isinstance(member, type) and issubclass(member, Section) else None


def add_default(app: Sphinx, kind: str, name: str, member: object, options: object, lines: list[str]) -> None:
    """A field of settings tells its default; that of a section is the section's own."""
    owner, _, field = name.rpartition(".")
    section = getattr(config, owner.rpartition(".")[2], None)
    if kind == "attribute" and isinstance(section, type) and field in section.model_fields:
        lines.insert(0, "")  # napoleon takes what is before a colon in the first line for a type
        default = section.model_fields[field].get_default(call_default_factory=False)
        if section.model_fields[field].is_required():
            lines += ["", "Required."]
        elif not isinstance(default, Section):
            lines += ["", f"Default: ``{default!r}``."]
