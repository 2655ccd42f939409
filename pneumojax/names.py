"""Texts from outside, such as names of files, as they are printed: on one line, with nothing that a screen obeys."""

import re

FORMULA = re.compile(r"(?:(?<=^)|(?<=[,;|]))[=+\-@＝＋－＠]")  # what a spreadsheet computes, at the beginning of a cell


def printable(text: object) -> str:
    r"""A text with backslash escapes for what cannot be printed: `\n`, `\x1b`, `\u2028`, `\udcff` for the byte ff.

    That are control characters and line ends, marks that turn the direction of writing, undecodable bytes: all that
    `str.isprintable` denies.
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def escaped(name: object) -> str:
    r"""The same of a name that is to be read again: a backslash of its own is `\\`."""
    return printable(str(name).replace("\\", "\\\\"))


def unescaped(text: str) -> str:
    """The inverse of `escaped`. Errors: ValueError for what it never gives."""
    return text.encode("latin-1", "backslashreplace").decode("unicode_escape") if "\\" in text else text


def defused(text: str) -> str:
    r"""An escaped text for a cell of a spreadsheet: `=cmd()` is `\x3dcmd()`, which no program takes for a formula.

    So is what a separator within the text is followed by, since a program may part cells by another than the comma.
    """
    return FORMULA.sub(
        lambda found: f"\\u{ord(found[0]):04x}" if ord(found[0]) > 255 else f"\\x{ord(found[0]):02x}", text
    )


def shown(value):
    """`printable` for the texts of a page, as Jinja's `finalize`; what is HTML already keeps its lines."""
    return printable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value
