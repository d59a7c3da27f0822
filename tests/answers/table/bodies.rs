//! JSON that is right as JSON, and bytes that are no right JSON.

use super::*;

/// JSON that is right as JSON.
pub fn objects() -> Vec<Row> {
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    vec![
        right(
            "more-fields",
            ok(
                r#"{"new":[{}],"failover":{"new":{"failover":{"active_server_ip":"2.2.2.2"}},"active_server_ip":"1.1.1.1"}}"#,
            ),
        ),
        right("only-what-is-needed", ok(r#"{"failover":{"active_server_ip":"1.1.1.1"}}"#)),
        right(
            "all-else-is-null",
            ok(
                r#"{"failover":{"ip":null,"netmask":null,"server_ip":null,"server_number":null,"active_server_ip":"1.1.1.1"}}"#,
            ),
        ),
        right("escaped", active(r#""\u0031.1.1.1""#)),
        right("spaces-around", ok(format!("\r\n\t {}\n\n ", body()))),
        bad("another-ip", ok(body().replace("4.4.4.4", "5.5.5.5")), "HTTP 200, but "),
        bad("ip-is-missing", ok(r#"{"failover":{"ip":"4.4.4.4"}}"#), NO_OBJECT),
        bad("a-number", active("16843009"), NO_OBJECT),
        bad("a-decimal", active("1.1"), NO_OBJECT),
        bad("true", active("true"), NO_OBJECT),
        bad("an-array", active(r#"["1.1.1.1"]"#), NO_OBJECT),
        bad("an-object", active(r#"{"ip":"1.1.1.1"}"#), NO_OBJECT),
        bad("failover-is-null", ok(r#"{"failover":null}"#), NO_OBJECT),
        bad("failover-is-a-string", ok(r#"{"failover":"1.1.1.1"}"#), NO_OBJECT),
        bad("failover-is-a-list", ok(format!(r#"{{"failover":[{}]}}"#, body())), NO_OBJECT),
        bad("failover-is-an-array-of-values", ok(r#"{"failover":["1.1.1.1"]}"#), NO_OBJECT),
        bad("a-list-as-of-all-failovers", ok(format!("[{}]", body())), NO_OBJECT),
        bad("a-list-of-lists", ok(r#"[["1.1.1.1"]]"#), NO_OBJECT),
        bad("another-case", ok(r#"{"Failover":{"Active_Server_IP":"1.1.1.1"}}"#), NO_OBJECT),
        bad("null", ok("null"), NO_OBJECT),
        bad("a-string", ok(r#""1.1.1.1""#), NO_OBJECT),
        bad(
            "twice-failover",
            ok(r#"{"failover":{"active_server_ip":"2.2.2.2"},"failover":{"active_server_ip":"1.1.1.1"}}"#),
            NO_OBJECT,
        ),
        bad(
            "twice-active-server-ip",
            ok(r#"{"failover":{"active_server_ip":"2.2.2.2","active_server_ip":"1.1.1.1"}}"#),
            NO_OBJECT,
        ),
        bad("deep", ok(deep.clone()), "HTTP 200 with "),
        bad(
            "deep-beside",
            ok(format!(r#"{{"deep":{deep},"failover":{{"active_server_ip":"1.1.1.1"}}}}"#)),
            "HTTP 200 with ",
        ),
        bad("empty-address", active(r#""""#), "HTTP 200, but active_server_ip is \"\", not an IP address"),
        bad(
            "spaces-in-the-address",
            active(r#"" 1.1.1.1""#),
            "HTTP 200, but active_server_ip is \" 1.1.1.1\", not an IP address",
        ),
        bad(
            "newline-after-the-address",
            active(r#""1.1.1.1\n""#),
            "HTTP 200, but active_server_ip is \"1.1.1.1?\", not an IP address",
        ),
        bad(
            "nul-after-the-address",
            active(r#""1.1.1.1\u0000""#),
            "HTTP 200, but active_server_ip is \"1.1.1.1?\", not an IP address",
        ),
        bad(
            "port",
            active(r#""1.1.1.1:80""#),
            "HTTP 200, but active_server_ip is \"1.1.1.1:80\", not an IP address",
        ),
        bad(
            "prefix",
            active(r#""1.1.1.1/32""#),
            "HTTP 200, but active_server_ip is \"1.1.1.1/32\", not an IP address",
        ),
        bad(
            "host-name",
            active(r#""www.example.com""#),
            "HTTP 200, but active_server_ip is \"www.example.com\", not an IP address",
        ),
        bad(
            "leading-zeros",
            active(r#""001.001.001.001""#),
            "HTTP 200, but active_server_ip is \"001.001.001.001\", not an IP address",
        ),
        bad(
            "three-numbers",
            active(r#""1.1.257""#),
            "HTTP 200, but active_server_ip is \"1.1.257\", not an IP address",
        ),
        bad(
            "two-addresses",
            active(r#""1.1.1.1,2.2.2.2""#),
            "HTTP 200, but active_server_ip is \"1.1.1.1,2.2.2.2\", not an IP address",
        ),
        bad(
            "the-word-null",
            active(r#""null""#),
            "HTTP 200, but active_server_ip is \"null\", not an IP address",
        ),
        Row {
            post: Err("HTTP 200, but it is routed to 2a01:4f8:0:5176::;"),
            get: Get::Elsewhere,
            ..right("another-family", active(r#""2a01:4f8:0:5176::""#))
        },
        Row {
            post: Err("HTTP 200, but it is routed to ::ffff:1.1.1.1;"),
            get: Get::Elsewhere,
            ..right("ipv4-mapped", active(r#""::ffff:1.1.1.1""#))
        },
        right("ipv6", active6(r#""2a01:4f8:0:5176::""#)).ipv6(),
        right("ipv6-upper-case", active6(r#""2A01:4F8:0:5176::""#)).ipv6(),
        right("ipv6-written-out", active6(r#""2a01:04f8:0000:5176:0000:0000:0000:0000""#)).ipv6(),
        right("ipv6-with-zeros-left", active6(r#""2a01:4f8:0:5176:0:0:0.0.0.0""#)).ipv6(),
        Row {
            post: Err("HTTP 200, but it is routed to 2a01:4f8:0:5176::2;"),
            get: Get::Elsewhere,
            ..right("ipv6-host-in-the-net", active6(r#""2a01:4f8:0:5176::2""#)).ipv6()
        },
        bad(
            "ipv6-prefix",
            active6(r#""2a01:4f8:0:5176::/64""#),
            "HTTP 200, but active_server_ip is \"2a01:4f8:0:5176::/64\", not an IP address",
        )
        .ipv6(),
        bad(
            "ipv6-brackets",
            active6(r#""[2a01:4f8:0:5176::]""#),
            "HTTP 200, but active_server_ip is \"[2a01:4f8:0:5176::]\", not an IP address",
        )
        .ipv6(),
        bad(
            "ipv6-scope",
            active6(r#""2a01:4f8:0:5176::%1""#),
            "HTTP 200, but active_server_ip is \"2a01:4f8:0:5176::%1\", not an IP address",
        )
        .ipv6(),
    ]
}

/// Bytes that are no right JSON.
pub fn bodies() -> Vec<Row> {
    let with = |before: &[u8], after: &[u8]| ok([before, body().as_bytes(), after].concat());
    let half = &body()[..body().len() / 2];
    vec![
        bad("half", ok(half), BROKEN_JSON),
        bad("trailing-garbage", with(b"", b"garbage"), BROKEN_JSON),
        bad("twice", with(b"", body().as_bytes()), BROKEN_JSON),
        bad("trailing-nul", with(b"", b"\0"), BROKEN_JSON),
        bad("bom", with(b"\xef\xbb\xbf", b""), NO_JSON),
        bad("guard-against-hijacking", with(b")]}',\n", b""), NO_JSON),
        bad("utf-16", ok(body().encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>()), BROKEN_JSON),
        bad(
            "invalid-utf-8",
            ok([
                br#"{"failover":{"x":"\xff\xfe","#.to_vec(),
                vec![b'"', 0xff, b'"'],
                br#":1,"active_server_ip":"1.1.1.1"}}"#.to_vec(),
            ]
            .concat()),
            BROKEN_JSON,
        ),
        bad(
            "invalid-utf-8-in-the-address",
            active("\"1.1.1.1Z\"")
                .into_iter()
                .map(|byte| if byte == b'Z' { 0xff } else { byte })
                .collect::<Vec<u8>>(),
            "HTTP 200 with ",
        ),
        bad("lone-surrogate", active(r#""1.1.1.1\ud800""#), "HTTP 200 with "),
        bad("nuls", ok([0; 300]), NO_JSON),
        bad("comments", ok(format!("// hello\n{}", body())), NO_JSON),
        bad("single-quotes", ok(body().replace('"', "'")), BROKEN_JSON),
        bad("jsonp", ok(format!("x({})", body())), NO_JSON),
        bad("xml", ok(format!("<?xml version=\"1.0\"?><x>{}</x>", body())), "HTTP 200 with an HTML page ("),
        // Not asked for, so not understood.
        bad("gzip", answer("200 OK", "Content-Encoding: gzip\r\n", GZIP), "HTTP 200 with "),
        bad("deflate", answer("200 OK", "Content-Encoding: deflate\r\n", DEFLATE), "HTTP 200 with "),
        // What it says is wrong, but what it holds is right.
        right("gzip-in-name-only", answer("200 OK", "Content-Encoding: gzip\r\n", body())),
        right("html-in-name-only", answer("200 OK", "Content-Type: text/html; charset=utf-16\r\n", body())),
        right("almost-64-kib", ok(padded(65_535))),
        bad("64-kib-and-a-byte", ok(padded(65_537)), LONG),
        bad("70-kib", ok(padded(71_680)), LONG),
        bad(
            "70-kib-chunked",
            [
                Step::Send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n11800\r\n".to_vec()),
                Step::Send(format!("{}\r\n0\r\n\r\n", padded(71_680)).into()),
            ],
            LONG,
        ),
    ]
}

/// `{"failover":{"active_server_ip":"1.1.1.1"}}`, as gzip and zlib would have it (stored, not compressed).
const GZIP: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x01\x2b\0\xd4\xff{\"failover\":{\"active_server_ip\":\"1.1.1.1\"}}\0\0\0\0\x2b\0\0\0";
const DEFLATE: &[u8] = b"\x78\x01\x01\x2b\0\xd4\xff{\"failover\":{\"active_server_ip\":\"1.1.1.1\"}}\0\0\0\0";
