"""Hook of mkdocs: the site has the tree of the repository, so that links mean the same in both.

The front page is README.md. Everything that a page links to is on the site as well: pages outside
of docs/, files of code and configuration as pages that show them, others as they are. A link to
what is not there ends a strict build.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pymdownx.slugs import slugify

FRONT = "README.md"
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s#]+)")
LANGUAGES = {".py": "python", ".yaml": "yaml", ".xml": "xml"}
CHANGELOG_TITLE = re.compile(r"\A\^+\n(.*)\n\^+\n")


class ShownFile(File):
    """A file that is no Markdown, as a page of the site."""

    def is_documentation_page(self) -> bool:
        """Let mkdocs make a page of it."""
        return True


def on_config(config: MkDocsConfig) -> None:
    """Give headings the addresses that they have where the repository is shown."""
    config.mdx_configs["toc"]["slugify"] = slugify(case="lower")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Lay out the files of docs/, and all that they link to, as in the repository."""
    root = _root(config)
    docs = Path(config.docs_dir).relative_to(root)
    ours = {file for file in files if file.src_dir == config.docs_dir}
    waiting = [FRONT, *((docs / file.src_uri).as_posix() for file in ours)]
    placed: dict[str, File] = {}
    while waiting:
        uri = waiting.pop()
        if uri not in placed:
            placed[uri] = _placed(root, uri, config)
            waiting += _linked_by(root, uri)
    in_order = sorted(placed, key=lambda uri: (not uri.endswith(FRONT), uri))
    config.nav = [_listed(entry, in_order) for entry in config.nav or ()]
    return Files([*(file for file in files if file not in ours), *placed.values()])


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let the front page do without a list of pages beside it: it is alone in its section."""
    if page.file.src_uri == FRONT:
        page.meta["hide"] = ["navigation"]
    return markdown


def _root(config: MkDocsConfig) -> Path:
    """Return the repository's folder, which has the configuration."""
    return Path(config.config_file_path).resolve().parent


def _placed(root: Path, uri: str, config: MkDocsConfig) -> File:
    """Return a file of the repository as one of the site."""
    suffix = Path(uri).suffix
    if suffix not in (*LANGUAGES, ".rst"):
        return File.generated(config, uri, abs_src_path=str(root / uri))
    page = ShownFile(uri, None, config.site_dir, False, dest_uri=f"{uri}.html")
    page.generated_by = "scripts.site_pages"
    text = (root / uri).read_text(encoding="utf-8")
    # A ROS changelog is reStructuredText that is Markdown, too, but for its title.
    page.content_string = (
        f"# `{uri}`\n\n````{LANGUAGES[suffix]}\n{text}````\n"
        if suffix in LANGUAGES
        else CHANGELOG_TITLE.sub(r"# \1\n", text)
    )
    return page


def _listed(entry: dict[str, Any], known: list[str]) -> dict[str, Any]:
    """Return a section of the navigation with the pages of the folders that it names."""
    ((title, pages),) = entry.items()
    if isinstance(pages, str):
        return entry
    found: list[str] = []
    for page in pages:
        folder = [uri for uri in known if uri.startswith(page) and uri.endswith(".md")]
        found += folder if page.endswith("/") else [page]
    return {title: found}


def _linked_by(root: Path, uri: str) -> Iterator[str]:
    """Yield the files of the repository to which a page links."""
    if uri.endswith(".md"):
        text = FENCE.sub("", (root / uri).read_text(encoding="utf-8"))
        for target in LINK.findall(text):
            path = os.path.normpath(Path(uri).parent / target)
            if (root / path).is_file():
                yield path
