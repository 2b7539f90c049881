"""Cases of HTTP and JSON themselves: methods, paths, headers, malformed and unusual bodies."""

from tests.etcd.steps import Call, Table, b, differs, everything, get, put, put_fields, rpc

# fmt: off
case = HTTP = Table("http")
A = b("a")


def plain(path: str, method: str = "GET", **options: object) -> Call:
    """A request that is no RPC."""
    return Call(path, b"", method, **options)


case(
    "version", plain("/version"), Call("/version", {}, "GET", {"Content-Type": "application/json"})
)
case("version by POST", plain("/version", "POST"))
case("version by PUT and DELETE", plain("/version", "PUT"), plain("/version", "DELETE"))
case("health", plain("/health"), plain("/health?serializable=true"))
case("health by POST", plain("/health", "POST"))
for _page in ("/nope", "/v2/keys/", "/members"):
    case(f"unknown page {_page}", differs(plain(_page), "Pages outside of /v3", 404, "not-found"))
case("the page /", differs(plain("/"), "Pages outside of /v3", 200, "<html"))
case("unknown RPC", Call("/v3/nope"), Call("/v3/kv/nope"), Call("/v3/"), Call("/v3"))
case("a trailing slash", Call("/v3/kv/range/", {"key": A}))
case("GET, PUT and DELETE on an RPC", plain("/v3/kv/range"), plain("/v3/kv/range", "PUT"),
     plain("/v3/kv/put", "DELETE"), plain("/v3/watch"))
case("GET on an unknown RPC", plain("/v3/nope"))
case("OPTIONS", plain("/v3/kv/range", "OPTIONS"), plain("/v3/nope", "OPTIONS"))
case("the prefix /v3beta", Call("/v3beta/kv/put", put_fields("a", "1")), Call("/v3beta/kv/range",
     {"key": A}),
     Call("/v3beta/lease/leases"), Call("/v3beta/maintenance/status"))
case(
    "the prefix /v3alpha",
    differs(Call("/v3alpha/kv/range", {"key": A}), "Pages outside of /v3", 404, "not-found"),
)
case("no Content-Type", Call("/v3/kv/put", put_fields("a", "1"), headers={}), get("a"))
case(
    "any Content-Type",
    *(
        Call("/v3/kv/put", put_fields("a", "1"), headers={"Content-Type": kind})
        for kind in ("text/plain", "application/octet-stream", "application/x-www-form-urlencoded")
    ),
)
case("Accept is ignored", Call("/v3/kv/range", {"key": A}, headers={"Accept": "text/html"}))
case("a query string is ignored", Call("/v3/kv/range?key=Yg%3D%3D&limit=x", {"key": A}))
case("a chunked request", Call("/v3/kv/put", put_fields("a", "1"),
     headers={"Transfer-Encoding": "chunked"}),
     get("a"))
case(
    "Expect: 100-continue",
    Call("/v3/kv/put", put_fields("a", "1"), headers={"Expect": "100-continue"}),
)
case("the connection stays open after errors", put("", ""), Call("/v3/nope"), get("a"))
case("an Authorization that nobody gave out", Call("/v3/kv/range", {"key": A},
     headers={"Authorization": "bogus"}))

case = JSON = Table("json")
case("an empty body", rpc("kv/range", b""), rpc("maintenance/status", b""), rpc("kv/txn", b""))
case("null", rpc("kv/range", b"null"), rpc("kv/txn", b"null"))
case("white space only", rpc("kv/txn", b" \n "))
for _name, _raw in {
    "not JSON": b"nonsense", "truncated": b'{"key":"YQ=="', "a trailing comma": b'{"key":"YQ==",}',
    "an array": b"[]", "a string": b'"a"', "a number": b"5", "a boolean": b"true",
    "single quotes": b"{'key':'YQ=='}", "a control character": b'{"key":"\x01"}',
    "an unterminated string": b'{"key":"YQ==', "only an opening brace": b"{",
}.items():
    case(_name, rpc("kv/range", _raw, loose=True))
case(
    "anything after the first value is ignored",
    rpc("kv/range", b'{"key":"YQ=="} garbage'),
    rpc("kv/range", b'{"key":"YQ=="}{"key":"!"}'),
    rpc("kv/range", b'{"key":"YQ=="}]'),
)
case("white space around", rpc("kv/range", b'\n\t {"key" : "YQ==" } \n'))
case("an unknown field", rpc("kv/range", {"key": A, "bogus": {"x": [1]}}))
case("names are case-sensitive", rpc("kv/range", {"KEY": A}), rpc("kv/range", {"Key": A}))
case("camelCase and snake_case", put("a", "1"), put("b", "1"),
     rpc("kv/range", {"key": A, "rangeEnd": b("c"), "keysOnly": True, "sortOrder": "DESCEND"}),
     rpc("kv/range", {"key": A, "range_end": b("c"), "count_only": True}))
case("null is the default", put("a", "1"), rpc("kv/range", {
    "key": A, "range_end": None, "limit": None, "keys_only": None, "sort_order": None}))
case(
    "of duplicated names the last wins",
    put("a", "1"),
    rpc("kv/range", b'{"key":"eA==","key":"YQ=="}'),
)
case("base64 without padding", rpc("kv/range", {"key": "YQ"}), rpc("kv/range", {"key": "YWI"}))
case("base64, illegal", rpc("kv/range", {"key": "!"}), rpc("kv/range", {"key": "Y!=="}),
     rpc("kv/range", {"key": "YQ=="[::-1]}), rpc("kv/range", {"key": "YQ==YQ=="}))
case("base64, url-safe", rpc("kv/range", {"key": "-_8="}), rpc("kv/range", {"key": "+/8="}))
case("base64 with line ends", put("abcd", "1"), rpc("kv/range", {"key": "YWJj\nZA=="}))
case(
    "base64 with loose trailing bits", rpc("kv/put", {"key": "YR==", "value": "YR=="}), everything()
)
case("bytes from other types", rpc("kv/range", {"key": 5}, loose=True), rpc("kv/range",
     {"key": True}, loose=True),
     rpc("kv/range", {"key": {}}, loose=True), rpc("kv/range", {"key": []}, loose=True),
     rpc("kv/range", {"key": [97]}, loose=True))
for _number in ("5", '"5"', '" 5"', '"5 "', "1.5", "1.0", "1e3", '"abc"', '""', '"+1"', '"010"',
"true",
                "9223372036854775807", "9223372036854775808", '"9223372036854775808"', "-0", '"-0"',
                "-9223372036854775808", "[]", "{}", '"1.0"', '"1e3"', '"0x5"', '"null"'):
    case(
        f"int64 {_number}",
        rpc("kv/range", b'{"key":"YQ==","limit":%b}' % _number.encode(), loose=True),
    )
for _flag in ("true", "false", '"true"', "1", "0", '""'):
    case(
        f"bool {_flag}",
        rpc("kv/range", b'{"key":"YQ==","keys_only":%b}' % _flag.encode(), loose=True),
    )
case("enum -1", differs(rpc("kv/range", b'{"key":"YQ==","sort_order":-1}'),
     "Unknown numbers of enums", 400, "unknown value"))
for _enum in ("2", '"DESCEND"', '"descend"', '"2"', "2.0", "true", '""', "99999999999"):
    case(
        f"enum {_enum}",
        rpc("kv/range", b'{"key":"YQ==","sort_order":%b}' % _enum.encode(), loose=True),
    )
case(
    "a list from other types",
    rpc("kv/txn", {"success": {}}, loose=True),
    rpc("kv/txn", {"success": "x"}, loose=True),
    rpc("kv/txn", {"success": [5]}, loose=True),
    rpc("kv/txn", {"compare": [[]]}, loose=True),
)
case("an object from other types", rpc("kv/txn", {"success": [{"request_put": 5}]}, loose=True),
     rpc("kv/txn", {"success": [{"request_put": []}]}, loose=True))
case(
    "escapes in strings", rpc("kv/put", b'{"key":"\\u0059Q==","value":"\\u0059Q=="}'), everything()
)
case("a byte order mark", rpc("kv/range", b'\xef\xbb\xbf{"key":"YQ=="}', loose=True))
case("text that is not UTF-8", rpc("kv/range", b'{"key":"YQ==","bogus":"\xff"}', loose=True))
case("every field with its default", rpc("kv/range", {
    "key": A, "range_end": "", "limit": 0, "revision": 0, "sort_order": 0, "sort_target": 0,
    "serializable": False, "keys_only": False, "count_only": False, "min_mod_revision": 0,
    "max_mod_revision": 0, "min_create_revision": 0, "max_create_revision": 0}))
case("NaN and Infinity", rpc("kv/range", b'{"key":"YQ==","limit":NaN}', loose=True),
     rpc("kv/range", b'{"key":"YQ==","limit":-Infinity}', loose=True))
case(
    "deep nesting of an unknown field",
    rpc("kv/range", b'{"key":"YQ==","x":' + b"[" * 500 + b"]" * 500 + b"}"),
)
