"""`/docs`: the OpenAPI document as a page to read, without scripts and without anything from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, Final

from thunderline.gate.schema_words import bounds, default_of, literal, without_null

_HEAD: Final = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    '<meta name="color-scheme" content="dark light">'
    "<title>{title} API</title>"
    '<link rel="icon" href="/assets/favicon.svg" type="image/svg+xml">'
    '<link rel="stylesheet" href="/assets/page.css"><link rel="stylesheet" href="/assets/docs.css"></head><body>'
    '<header class="top"><a class="brand" href="/" aria-label="{title}">'
    '<img src="/assets/favicon.svg" alt="" width="24" height="24"><span>{title}</span></a>'
    '<nav aria-label="Pages"><a href="/">Dashboard</a><a href="/docs" aria-current="page">API</a></nav></header>'
)


def render_docs(document: dict[str, Any]) -> str:
    """The page for `document`."""
    info = document["info"]
    title = escape(info["title"])
    groups: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            groups.setdefault(operation["tags"][0], []).append((path, method, operation))
    schemas = sorted(document["components"]["schemas"].items())
    contents, sections = [], []
    for tag, items in sorted(groups.items()):
        head = escape(tag.capitalize())
        links = ((item[2]["operationId"], f"{_method(item[1])} <code>{escape(item[0])}</code>") for item in items)
        contents.append(_contents(head, links))
        sections.append(f"<h2>{head}</h2>" + "".join(_operation(*item) for item in items))
    contents.append(_contents("Records", ((name, f"<code>{escape(name)}</code>") for name, _ in schemas)))
    sections.append("<h2>Records</h2>" + "".join(_schema(name, schema) for name, schema in schemas))
    return (
        f'{_HEAD.format(title=title)}<main class="docs"><nav aria-label="Contents">{"".join(contents)}</nav>'
        f"<article><h1>{title} API <small>{escape(info['version'])}</small></h1>"
        f'<p>{_text(info["description"])} The document itself is at <a href="/schema">/schema</a>.</p>'
        f"{''.join(sections)}</article></main></body></html>"
    )


def _contents(head: str, links: Iterable[tuple[str, str]]) -> str:
    items = "".join(f'<li><a href="#{escape(anchor)}">{text}</a></li>' for anchor, text in links)
    return f"<h2>{head}</h2><ul>{items}</ul>"


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    takes = [
        (
            f"<code>{escape(parameter['name'])}</code>",
            f"{escape(parameter['in'])}{', required' if parameter.get('required') else ''}",
            # A parameter that may be left out is described as nullable; a query cannot say null.
            _kind(without_null(parameter.get("schema", {}))),
            _meaning(parameter.get("description", ""), parameter.get("schema", {})),
        )
        for parameter in operation.get("parameters", ())
    ]
    body = operation.get("requestBody")
    if body is not None:
        need = "required" if body["required"] else "optional"
        takes.append(("the body", need, _kind(body["content"]["application/json"]["schema"]), ""))
    gives = [
        (
            f"<code>{escape(status)}</code>",
            " or ".join(_kind(content["schema"]) for content in response.get("content", {}).values()) or "empty",
            _text(response.get("description", "")),
        )
        for status, response in operation["responses"].items()
    ]
    description = operation["description"]
    told = "" if description.rstrip(".") == operation["summary"] else f"<p>{_text(description)}</p>"
    return _details(
        operation["operationId"],
        f"{_method(method)} <code>{escape(path)}</code> <span>{_text(operation['summary'])}</span>",
        told + _table(("Takes", "Where", "Type", "Meaning"), takes) + _table(("Answers", "With", "Meaning"), gives),
    )


def _schema(name: str, schema: dict[str, Any]) -> str:
    required = set(schema.get("required", ()))
    rows = [
        (
            f"<code>{escape(field)}</code>",
            "required" if field in required else "optional",
            _kind(part),
            _meaning(part.get("description", ""), part),
        )
        for field, part in schema.get("properties", {}).items()
    ]
    values = " ".join(f"<code>{escape(literal(value))}</code>" for value in schema.get("enum", ()))
    description = schema.get("description", "")
    return _details(
        name,
        f"<code>{escape(name)}</code> <span>{_text(description.partition('. ')[0].rstrip('.'))}</span>",
        f"<p>{_text(description)}</p>"
        + (f"<p>One of {values}</p>" if values else "")
        + _table(("Field", "Need", "Type", "Meaning"), rows),
    )


def _details(anchor: str, summary: str, content: str) -> str:
    # The anchor stands inside, so that a link to it opens the details.
    return f'<details><summary>{summary}</summary><div id="{escape(anchor)}">{content}</div></details>'


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{text}</th>' for text in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _method(method: str) -> str:
    return f'<b class="method {escape(method)}">{escape(method.upper())}</b>'


def _kind(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(_kind(part) for part in schema[several])
    if "enum" in schema:
        return " or ".join(f"<code>{escape(literal(value))}</code>" for value in schema["enum"])
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_kind(schema['additionalProperties'])}"
    return escape(" or ".join(kind) if isinstance(kind, list) else str(kind))


def _meaning(description: str, schema: dict[str, Any]) -> str:
    """The description with the bounds and the default behind it."""
    said = bounds(schema)
    if (default := default_of(schema)) is not None:
        said.append(f"default <code>{escape(default)}</code>")
    tail = f'<span class="bounds">{"; ".join(said)}</span>' if said else ""
    return " ".join(part for part in (_text(description), tail) if part)


def _text(text: str) -> str:
    """`text` escaped, with `code` between back-ticks."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))
