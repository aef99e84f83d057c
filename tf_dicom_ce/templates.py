"""Fills this package's Jinja templates for pages and reports."""

from collections.abc import Callable, Mapping
from typing import Any


def fill(
    template: str, content: Mapping[str, Any], filters: Mapping[str, Callable] | None = None
) -> str:
    """Fills a template, such as "intake/coverage.html.jinja", with optional filters.

    Values in HTML are escaped. A name that the template uses but the content lacks is an error.
    """
    import jinja2  # here, because most commands need no template

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
