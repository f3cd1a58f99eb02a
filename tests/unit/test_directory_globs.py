"""What the patterns of the directory source match."""

from __future__ import annotations

import time

import pytest

from connectors.sources.directory.globs import GlobError, Globs


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("**", "a a/b .x", ""),
        ("*", "a a/b .x", ""),
        ("**/*", "a a/b", ""),
        ("/**", "a a/b", ""),
        ("/", "a a/b", ""),
        ("*.md", "a.md x/y/a.md a.md/x .md", "amd a.mdx md A.MD"),
        ("/*.md", "a.md", "x/a.md"),
        ("./a", "a a/b", "x/a"),
        ("docs", "docs docs/a x/docs x/docs/b", "docs2 xdocs"),
        ("docs/", "docs/a docs/a/b x/docs/a", "docs"),
        ("/docs/", "docs/a docs/a/b", "docs x/docs/a"),
        ("docs/**", "docs/a docs/a/b", "docs x/docs/a"),
        ("a/**/b", "a/b a/x/b a/x/y/b a/x/b/c", "a/xb b ab x/a/b"),
        ("a/*/b", "a/x/b", "a/b a/x/y/b"),
        ("**/a/**/b/**/c", "a/b/c x/a/y/b/z/c a/b/b/c a/a/b/c", "a/c b/c"),
        ("a/**/**/b", "a/b a/x/y/b", "ab"),
        ("{a,b{c,d}}x", "ax bcx bdx q/ax", "bx x"),
        ("src/{a/b,c}/*.py", "src/a/b/x.py src/c/x.py", "src/a/x.py"),
        ("*.{md,}", "a.md a.", "a.x"),
        ("[!a]b", "cb", "ab b"),
        ("[^a]b", "cb", "ab"),
        ("[]x]b", "]b xb", "ab"),
        ("[a-c-]", "a c -", "d"),
        ("[{,}]", "{ , }", "a"),
        ("x[!a]y", "xby", "x/y"),
        ("a?c", "abc", "ac a/c"),
        ("?", "é 字", "ab"),
        ("*a*b*c", "abc xaxbxc aabbcc abcabc", "acb ab"),
        ("a*b*", "ab axbx", "ba"),
        (r"\*.md", "*.md", "a.md"),
        (r"\{a\}", "{a}", "a"),
        ("*.tar.*", "x.tar.gz a.tar.tar", "x.tar"),
        ("a.b", "a.b", "axb"),
        ("(a|b)+$", "(a|b)+$", "a ab"),
    ],
)
def test_patterns(pattern: str, yes: str, no: str) -> None:
    globs = Globs([pattern])
    assert [path for path in yes.split() if not globs.match(path)] == []
    assert [path for path in no.split() if globs.match(path)] == []


def test_no_pattern_matches_nothing() -> None:
    assert not Globs([]).match("a")
    assert not Globs([]).covers_folder("a")
    assert not Globs([]).may_match_in("a")


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("", "between 1 and 4096"),
        ("  ", "between 1 and 4096"),
        ("x" * 5000, "between 1 and 4096"),
        ("!a", "begins with !"),
        ("a/../b", r"contains \.\."),
        ("[ab", "without its ]"),
        ("{a,b", "brace without its partner"),
        ("a}", "YAML list"),
        ("[z-a]", "bad range"),
        ("a\\", "ends in a backslash"),
        ("{0,1,2,3,4,5,6,7,8,9}" * 4, "more than 1000 patterns"),
    ],
)
def test_malformed_patterns_are_explained(pattern: str, words: str) -> None:
    with pytest.raises(GlobError, match=words):
        Globs([pattern])


def test_folders_that_need_not_be_entered() -> None:
    exclude = Globs(["node_modules", "/build/**", "*.tmp"])
    assert exclude.covers_folder("a/node_modules")
    assert exclude.covers_folder("build")
    assert not exclude.covers_folder("a/build")
    assert not exclude.covers_folder("docs")
    include = Globs(["/docs/api/*.md", "guides/"])
    assert include.may_match_in("docs")
    assert include.may_match_in("docs/api")
    assert include.may_match_in("docs/api/deeper")
    assert include.may_match_in("anything/guides")
    anchored = Globs(["/docs/api/*.md", "/docs/img/**"])
    assert not anchored.may_match_in("docs/img2")
    assert not anchored.may_match_in("doc")


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*a" * 30 + "*b", "a" * 20_000),
        ("**/a/" * 30 + "**/b", "a/" * 20_000 + "c"),
        ("**/" + "/**/".join(["*a*a*a*b"] * 8), "/".join(["a" * 200] * 100)),
        ("?*" * 40 + "b", "a" * 20_000),
        ("{a,aa}" * 8 + "*b", "a" * 20_000),
    ],
)
def test_no_pattern_takes_more_than_proportional_time(pattern: str, path: str) -> None:
    globs = Globs([pattern])
    started = time.process_time()
    assert not globs.match(path)
    assert time.process_time() - started < 1
