"""Brings pages from outside docs/ into the site, and points the links to them there. Used by MkDocs (mkdocs.yml).

On disk a page links to its neighbours in the repository, so that links work there too. In the site the README files of
examples and benchmarks, and the changelog, are pages under `project/`; a link to any other file becomes its path.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PROJECT = "project"
_BROUGHT = ("CHANGELOG.md", "CONTRIBUTING.md", "README.md", "SECURITY.md", "benchmarks/**/*.md", "examples/**/*.md")
#: A fenced block, a link (whose text may hold code), or code: what comes first in the text wins.
_LINK = re.compile(
    r"^```.*?^```|(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)|`[^`\n]*`", re.MULTILINE | re.DOTALL
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside docs/; they are reached by links, not by the navigation."""
    for pattern in _BROUGHT:
        for path in sorted(ROOT.glob(pattern)):
            name = f"{PROJECT}/{path.relative_to(ROOT).as_posix()}"
            file = File.generated(config, name, abs_src_path=str(path), inclusion=InclusionLevel.NOT_IN_NAV)
            files.append(file)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links at the pages of the site; those to other files of the repository become text."""
    source, known = page.file.src_uri, set(files.src_uris)

    def relink(match: re.Match[str]) -> str:
        target, _, anchor = (match["target"] or "").partition("#")
        if not target or re.match(r"[a-z]+:", target):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(_in_repository(source)), target))
        found = _page_of(path, known)
        if found is None:
            return f"{match['text']} (`{path}`)"
        link = posixpath.relpath(found, posixpath.dirname(source) or ".")
        return f"{match['image']}[{match['text']}]({link}{'#' + anchor if anchor else ''})"

    return _LINK.sub(relink, markdown)


def _in_repository(source: str) -> str:
    return source.removeprefix(f"{PROJECT}/") if source.startswith(PROJECT) else f"docs/{source}"


def _page_of(path: str, known: set[str]) -> str | None:
    """Return the page of the site for a path in the repository: the file itself, or the page of a folder."""
    for name in (path, f"{path}/README.md", f"{path}/index.md", f"{path}/0001-a-shell-and-an-engine.md"):
        page = name.removeprefix("docs/") if name.startswith("docs/") else f"{PROJECT}/{name}"
        if page in known:
            return page
    return None
