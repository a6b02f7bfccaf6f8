"""Add files from outside docs to the site: the apps' README files, and every file that a page links to.

Markdown links are written for readers of the repository. A link that leaves docs, such as `../benchmarks/dense.py`,
becomes a link to the site's copy of that file. A link to a folder becomes plain text.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

DOCS = Path(__file__).parents[1]
ROOT = DOCS.parent
READMES = {f"apps/{app}/README.md": ROOT / "apps" / app / "README.md" for app in ("image", "audio", "video", "demo")}
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#:\s]+)(#[^)]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the README files of the apps, and all files outside docs that a page links to."""
    for uri, source in READMES.items():
        files.append(File.generated(config, uri, abs_src_path=str(source)))
    pages = [file for file in files if file.src_uri.endswith(".md")]
    for page in pages:
        for target in _targets(Path(str(page.abs_src_path))):
            uri = _site_uri(target)
            if target.is_file() and files.get_file_from_path(uri) is None:
                files.append(File.generated(config, uri, abs_src_path=str(target)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links that leave docs to the site's copies."""
    source = Path(str(page.file.abs_src_path))
    here = PurePosixPath(page.file.src_uri).parent

    def moved(link: re.Match[str]) -> str:
        mark, text, path, anchor = link.groups()
        target = (source.parent / path).resolve()
        if not target.exists() or (target.is_relative_to(DOCS) and source.is_relative_to(DOCS)):
            return link[0]  # MkDocs itself warns about a broken link
        if target.is_dir():
            return text
        return f"{mark}[{text}]({os.path.relpath(_site_uri(target), here)}{anchor or ''})"

    return LINK.sub(moved, markdown)


def _targets(page: Path) -> list[Path]:
    links = LINK.findall(page.read_text(encoding="utf-8"))
    return [(page.parent / path).resolve() for _, _, path, _ in links]


def _site_uri(target: Path) -> str:
    """Return a file's path in the site, relative to docs or to the repository."""
    base = DOCS if target.is_relative_to(DOCS) else ROOT
    return target.relative_to(base).as_posix()
