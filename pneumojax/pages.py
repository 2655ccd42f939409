"""HTML pages from Jinja's templates: names from outside are escaped twice, for HTML and for the eye."""

from pathlib import Path

import jinja2

from pneumojax import checkpoint
from pneumojax.names import shown


def write(path: Path, package: str, **values) -> None:
    """Renders `page.html.j2` of a package into a file. What is no Unicode in names becomes backslash escapes.

    A page may import what `sections.html.j2` has: how a section looks, and the style.
    """
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(name, ".") for name in (package, "pneumojax")]),
        autoescape=True,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template("page.html.j2").render(values)
    checkpoint.write_bytes(path, text.encode(errors="backslashreplace"))
