"""`/docs`: the OpenAPI document as a page to read, without scripts and without anything from elsewhere."""

from __future__ import annotations

from html import escape
from typing import Any


def render_docs(document: dict[str, Any]) -> str:
    """The page for `document`."""
    info = document["info"]
    groups: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            groups.setdefault(operation["tags"][0], []).append(_operation(path, method, operation))
    sections = "".join(f"<h2>{escape(tag.capitalize())}</h2>{''.join(items)}" for tag, items in sorted(groups.items()))
    schemas = "".join(_schema(name, schema) for name, schema in sorted(document["components"]["schemas"].items()))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(info['title'])} API</title>"
        '<link rel="stylesheet" href="/assets/page.css"></head><body><main class="docs">'
        f"<h1>{escape(info['title'])} API <small>{escape(info['version'])}</small></h1>"
        f'<p>{_text(info["description"])} The document itself is at <a href="/schema">/schema</a>.</p>'
        f"{sections}<h2>Records</h2>{schemas}</main></body></html>"
    )


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(parameter['name'])}</code></td><td>{escape(parameter['in'])}</td>"
        f"<td>{_kind(parameter.get('schema', {}))}</td><td>{_text(parameter.get('description', ''))}</td></tr>"
        for parameter in operation.get("parameters", ())
    )
    body = operation.get("requestBody")
    if body is not None:
        kind = _kind(body["content"]["application/json"]["schema"])
        need = "required" if body["required"] else "optional"
        rows += f"<tr><td>body</td><td>{need}</td><td>{kind}</td><td></td></tr>"
    for status, response in operation["responses"].items():
        kinds = "".join(_kind(content["schema"]) for content in response.get("content", {}).values())
        rows += f"<tr><td>{escape(status)}</td><td>answer</td><td>{kinds}</td><td></td></tr>"
    return (
        f"<details><summary><b>{escape(method.upper())}</b> <code>{escape(path)}</code> "
        f"{escape(operation['summary'])}</summary><p>{_text(operation['description'])}</p>"
        f"<table>{rows}</table></details>"
    )


def _schema(name: str, schema: dict[str, Any]) -> str:
    required = set(schema.get("required", ()))
    rows = "".join(
        f"<tr><td><code>{escape(field)}</code></td><td>{'required' if field in required else ''}</td>"
        f"<td>{_kind(part)}</td><td>{_text(part.get('description', ''))}</td></tr>"
        for field, part in schema.get("properties", {}).items()
    )
    values = ", ".join(f"<code>{escape(str(value))}</code>" for value in schema.get("enum", ()))
    return (
        f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary>'
        f"<p>{_text(schema.get('description', ''))} {values}</p><table>{rows}</table></details>"
    )


def _kind(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(_kind(part) for part in schema[several])
    if "enum" in schema:
        return " | ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_kind(schema['additionalProperties'])}"
    return escape(" or ".join(kind) if isinstance(kind, list) else str(kind))


def _text(text: str) -> str:
    """`text` escaped, with `code` between back-ticks."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))
