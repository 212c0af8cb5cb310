"""Check that documentation, comments and messages are in plain technical English.

    python .ci/plain_english.py vaebench README.md docs benchmarks

Counts turns of phrase that technical writing does not use, in docstrings, comments and string
literals of at least four words of Python files, and in the text of Markdown files and Jinja
templates. Fails above 1.5 per 1,000 words in all, or above 3 in a folder of more than 1,000 words.
Every place is printed as FILE:LINE. A phrase can be right in one place: this is a thermometer.
"""

import ast
import io
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

MOST_IN_ALL = 1.5
MOST_IN_A_FOLDER = 3.0
WORDS_OF_A_FOLDER = 1000

TURNS = [
    r"\b(told|tells?|telling)\b",
    r"\blest\b",
    r"\banew\b",
    r"\bof (its|our|their|one's|a user's) own\b",
    r"\b(can(not|'t)? be|are|is|was) had\b",
    r"\blies?\b",
    r"\bstands?\b",
    r"(?:^|[.] )Of (?!course)[a-z]",
    r"(?<!there )\b(is|are|was) (none of|no (?!longer|more|reason|way|need))",
    r"(?:^|[.] )What (?!is new|'s new)[a-z][^?]*$",
    r"\bso many\b|\bso long as\b",
    r"\bwhoever\b|\bwhichever\b",
    r"\bmeanwhile\b",
    r"\bdearest\b|\brepay\w*|\brepaid\b",
    r"\bgone on\b|\bgo on (from|with)\b|\bwent on\b",
    r"\bbeside\b",
    r"\bwork(s|ed)? out\b",
    r"\bin force\b",
    r"\bmakes? of\b",
    r"\bmend(s|ed|ing)?\b",
    r"\bto hand\b",
    r"\bwere it\b|\bbe it\b",
    r"\bby turns\b|\bin turns\b",
    r"\bin (the )?place of\b",
    r"\bsave for\b|\bbut for\b|\ball but\b",
    r"\ba (line|row|file|cell|seed|number|core|point|member|design|step|pixel|worker|second) "
    r"an? [a-z]+\b",
]
PATTERNS = [re.compile(turn, re.IGNORECASE) for turn in TURNS]
NOT_TEXT = re.compile(r"<[^>]+>|\{[{%].*?[%}]\}|`[^`]*`")


def python_text(text: str) -> Iterator[tuple[int, str]]:
    """Line numbers and lines of strings of at least four words, and of comments."""
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Constant(value=str(value)) if len(value.split()) >= 4:
                yield from enumerate(value.splitlines(), node.lineno)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string.lstrip("# ")


def markup_text(text: str) -> Iterator[tuple[int, str]]:
    """Line numbers and lines outside fenced blocks, without tags, expressions and code."""
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            yield number, NOT_TEXT.sub(" ", line)


def files_of(arguments: list[str]) -> Iterator[Path]:
    for path in map(Path, arguments):
        if path.is_file():
            yield path
        else:
            found = sorted(path.rglob("*"))
            yield from (each for each in found if each.suffix in {".py", ".md", ".j2"})


def main(arguments: list[str]) -> int:
    """Print the places and the rates; return 1 if a limit is passed."""
    words: Counter[Path] = Counter()
    turns: Counter[Path] = Counter()
    for path in files_of(arguments):
        text = path.read_text(encoding="utf-8")
        for number, line in (python_text if path.suffix == ".py" else markup_text)(text):
            words[path.parent] += len(re.findall(r"\b[a-zA-Z']+\b", line))
            for match in (each for pattern in PATTERNS for each in pattern.finditer(line)):
                turns[path.parent] += 1
                print(f"{path}:{number}: {match[0].strip()}: {line.strip()[:100]}")
    if not words:
        sys.exit("there is no text to check: give files and folders")
    rates = {folder: 1000 * turns[folder] / words[folder] for folder in words if words[folder]}
    total = 1000 * turns.total() / words.total()
    for folder, rate in sorted(rates.items()):
        print(f"{rate:6.1f} of {words[folder]:6d} words  {folder}")
    print(f"{total:6.1f} of {words.total():6d} words  in all")
    large = [rate for folder, rate in rates.items() if words[folder] > WORDS_OF_A_FOLDER]
    return int(total > MOST_IN_ALL or max(large, default=0.0) > MOST_IN_A_FOLDER)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
