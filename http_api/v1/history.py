"""`GET /v1/kv/{key}?history`: what happened to one key, newest first."""

from typing import Any

from http_api.core.params import ReadOptions
from http_api.core.responses import Answer, json_answer
from http_api.core.session import Session
from http_api.v1.documents import ITEM, KEY_PROPERTIES, event_document, text_or_base64

LIMIT_DEFAULT = 100
LIMIT_MAX = 1000


async def history_answer(session: Session, key: bytes, options: ReadOptions, limit: int) -> Answer:
    """Writes and deletions up to `options.revision`, as far as compaction left them.

    Raises RevisionInFuture, RevisionCompacted or Unavailable.
    """
    await session.readable(*options)
    found = session.history(key, limit, options.revision)
    name, text = text_or_base64("key", key)
    items = [event_document(event, previous=False, key=False) for event in found.events]
    return json_answer(
        {
            name: text,
            "items": items,
            "more": found.more,
            "compacted_revision": session.compacted_revision,
        }
    )


_EVENT = {
    "type": "object",
    "description": "A write has a value and revisions; a deletion only its `mod_revision`.",
    "properties": {
        "type": {"type": "string", "enum": ["put", "delete"]},
        **{name: schema for name, schema in ITEM["properties"].items() if "key" not in name},
    },
    "required": ["type", "mod_revision"],
    "additionalProperties": False,
}
HISTORY_PROPERTIES: dict[str, Any] = {
    **KEY_PROPERTIES,
    "items": {"type": "array", "items": _EVENT},
    "more": {"type": "boolean", "description": "Go on at `revision` = the last one's less 1"},
    "compacted_revision": {"type": "integer", "description": "The oldest readable revision"},
}
