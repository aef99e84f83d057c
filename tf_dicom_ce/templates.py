"""Pages and reports from this package's Jinja templates."""

from collections.abc import Callable, Mapping
from typing import Any


def fill(
    template: str, content: Mapping[str, Any], filters: Mapping[str, Callable] | None = None
) -> str:
    """Fills a template, e.g. "intake/coverage.html.jinja", and may give it filters of its own.

    What goes into HTML is escaped, and nothing that the template names may be missing.
    """
    import jinja2  # here, as most commands fill none

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tf_dicom_ce", "."),
        autoescape=template.endswith(".html.jinja"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= filters or {}
    return environment.get_template(template).render(content)
