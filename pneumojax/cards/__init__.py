"""Cards of what is exported: of a network or a generator, of its data, and the CLAIM checklist; Markdown, by Jinja.

They are made of a finished run and say 'not known' where it does not tell. Names from outside are escaped, for Markdown
and HTML and for the eye: whatever a class, an arm or a test set is called stands there as it is, on one line.
"""

import html
import re

import jinja2

from pneumojax.names import printable

NOT_KNOWN = "not known"
MARKS = re.compile(r"[\\`*_\[\]|~#$!@]|:(?=//)")  # each begins or ends something in Markdown, or makes a link
BEGINNINGS = re.compile(r"^(|\d{1,9}(?=[.)](?:\s|$)))([+=.)-])")  # of lists and lines


class Trusted(str):
    """Markdown of our own, which `shown` leaves as it is."""


def escaped(text: object) -> str:
    """A text from outside as Markdown that shows it, on one line."""
    plain = BEGINNINGS.sub(r"\1\\\2", MARKS.sub(r"\\\g<0>", printable(text)))
    return html.escape(plain, quote=False).replace("www.", "www&#46;")


def code(text: object) -> Trusted:
    """A name from outside between backticks, where nothing is escaped, on one line."""
    return Trusted(printable(text).replace("`", "'"))


def shown(value: object) -> str:
    """What a template's expression becomes."""
    if isinstance(value, Trusted):
        return value
    if value is None or value == "" or isinstance(value, jinja2.Undefined):
        return NOT_KNOWN
    return escaped(value) if isinstance(value, str) else str(value)


def rendered(template: str, **values) -> str:
    """A card, `classifier.md.j2` and so on, of values of which some may be None."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__name__, "."),
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["code"] = code
    return environment.get_template(template).render(values)
