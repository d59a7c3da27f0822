//! What stands around the JSON: lengths, status lines, headers.

use super::*;

/// How long the body is said to be.
pub fn framings() -> Vec<Row> {
    let hex = |length: usize| format!("{length:x}");
    let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let ends_here = "0\r\n\r\n";
    let no_length = head("HTTP/1.1 200 OK\r\nConnection: close");
    vec![
        right("chunked", chunked(hex, ends_here)),
        right("chunked-upper-case", chunked(|length| format!("00{length:X}"), ends_here)),
        right("chunk-extensions", chunked(|length| format!("{length:x};name=\"value\";x"), ends_here)),
        right("trailers", chunked(hex, "0\r\nX-Checksum: 1\r\nContent-Length: 5\r\n\r\n")),
        right(
            "chunked-and-a-length",
            [Step::Send(
                String::from_utf8(chunked(hex, ends_here))
                    .expect("text")
                    .replace("\r\nTransfer", "\r\nContent-Length: 7\r\nTransfer")
                    .into(),
            )],
        ),
        bad("chunks-without-end", chunked(hex, ""), BROKEN),
        bad("chunk-is-too-short", chunked(|length| hex(length - 1), ends_here), NO_HTTP),
        bad("chunk-is-too-long", chunked(|length| hex(length + 1), ends_here), NO_HTTP),
        bad("chunk-length-is-no-number", chunked(|_| "xyz".into(), ends_here), NO_HTTP),
        bad("chunk-length-is-negative", chunked(|_| "-1".into(), ends_here), NO_HTTP),
        bad("chunk-length-is-huge", format!("{chunks}ffffffffffffffff\r\n{}", body()).into_bytes(), BROKEN),
        bad(
            "chunk-length-overflows",
            format!("{chunks}1{:x>24}\r\n{}", "0", body()).replace('x', "0").into_bytes(),
            NO_HTTP,
        ),
        bad("chunk-length-without-end", [Step::Send(chunks.into()), Step::Flood(vec![b'0'; 4096])], STALLED),
        bad("chunked-in-name-only", format!("{chunks}{}", body()).into_bytes(), STALLED),
        right("length-twice", head("HTTP/1.1 200 OK\r\nContent-Length: LENGTH\r\nContent-Length: LENGTH")),
        bad("two-lengths", head("HTTP/1.1 200 OK\r\nContent-Length: LENGTH\r\nContent-Length: 5"), NO_HTTP),
        bad("length-too-short", head("HTTP/1.1 200 OK\r\nContent-Length: 100"), BROKEN_JSON),
        bad("length-too-long", head("HTTP/1.1 200 OK\r\nContent-Length: 1000"), BROKEN),
        bad("length-is-zero", head("HTTP/1.1 200 OK\r\nContent-Length: 0"), "HTTP 200 with an empty body: "),
        bad("length-is-negative", head("HTTP/1.1 200 OK\r\nContent-Length: -1"), NO_HTTP),
        bad("length-is-huge", head("HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615"), BROKEN),
        bad("length-overflows", head("HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616"), NO_HTTP),
        bad("length-is-no-number", head("HTTP/1.1 200 OK\r\nContent-Length: many"), NO_HTTP),
        right("no-length", no_length.clone()),
        // Half an object is no JSON, so that TLS need not tell where it ends.
        right("no-length-and-cut", [Step::Send(no_length), Step::Cut]),
        bad(
            "no-length-and-half",
            [Step::Send(format!("HTTP/1.1 200 OK\r\n\r\n{}", &body()[..60]).into())],
            BROKEN_JSON,
        ),
        bad(
            "body-without-end",
            [Step::Send(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()), Step::Flood(vec![b' '; 8192])],
            LONG,
        ),
        bad(
            "chunks-for-ever",
            [Step::Send(chunks.into()), Step::Flood(format!("1000\r\n{:4096}\r\n", "").into())],
            LONG,
        ),
    ]
}

/// Status lines and headers.
pub fn heads() -> Vec<Row> {
    let many = |number: usize| {
        let lines: String = (0..number).map(|number| format!("X-{number}: y\r\n")).collect();
        head(&format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: LENGTH"))
    };
    let header = |line: &str| head(&format!("HTTP/1.1 200 OK\r\n{line}\r\nContent-Length: LENGTH"));
    let status = |line: &str| head(&format!("{line}\r\nContent-Length: LENGTH"));
    vec![
        right("100-continue-first", [b"HTTP/1.1 100 Continue\r\n\r\n".to_vec(), here()].concat()),
        right(
            "102-and-103-first",
            [
                b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".to_vec(),
                here(),
            ]
            .concat(),
        ),
        bad("100-continue-only", [Step::Send(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()), Step::Hang], LATE),
        bad("100-continue-and-close", b"HTTP/1.1 100 Continue\r\n\r\n".to_vec(), BROKEN),
        bad(
            "100-continue-for-ever",
            [Step::Flood(b"HTTP/1.1 100 Continue\r\n\r\n".repeat(1000))],
            ENDLESS_HEADER,
        ),
        bad(
            "100-continue-now-and-then",
            [Step::Trickle(b"HTTP/1.1 100 Continue\r\n\r\n".repeat(40), Duration::from_millis(100))],
            LATE,
        ),
        bad("101", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n".to_vec(), "HTTP 101"),
        right("no-reason", status("HTTP/1.1 200")),
        right("another-reason", status("HTTP/1.1 200 Not At All OK: 404")),
        right("http-1.0", status("HTTP/1.0 200 OK")),
        right("lf-only", String::from_utf8(here()).expect("text").replace("\r\n", "\n").into_bytes()),
        right(
            "headers-in-lower-case",
            [&b"HTTP/1.1 200 OK\r\n"[..], &head("content-length: LENGTH")].concat(),
        ),
        bad("http-0.9", body().into_bytes(), NO_HTTP),
        bad("http-1.2", status("HTTP/1.2 200 OK"), NO_HTTP),
        bad("http-2-preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), NO_HTTP),
        bad(
            "http-2-settings",
            b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x80\0\x04\0\x01\0\0\0\x05\0\xff\xff\xff".to_vec(),
            NO_HTTP,
        ),
        bad("status-of-two-digits", status("HTTP/1.1 20 OK"), NO_HTTP),
        bad("status-of-four-digits", status("HTTP/1.1 2000 OK"), NO_HTTP),
        bad("status-is-negative", status("HTTP/1.1 -200 OK"), NO_HTTP),
        bad("status-is-a-word", status("HTTP/1.1 OK 200"), NO_HTTP),
        bad("status-zero", status("HTTP/1.1 000 OK"), NO_HTTP),
        bad("garbage", b"\x00\xff\x13\x37 garbage instead of HTTP\n\n".to_vec(), NO_HTTP),
        bad("ssh", b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n".to_vec(), NO_HTTP),
        bad("smtp", b"220 mail.example.com ESMTP\r\n".to_vec(), NO_HTTP),
        right("100-headers", many(100)),
        bad("500-headers", many(500), NO_HTTP),
        bad("one-huge-header", header(&format!("X: {}", "y".repeat(100_000))), ENDLESS_HEADER),
        bad(
            "headers-without-end",
            [Step::Send(b"HTTP/1.1 200 OK\r\n".to_vec()), Step::Flood(b"X: y\r\n".repeat(100))],
            NO_HTTP,
        ),
        bad(
            "header-line-without-end",
            [Step::Send(b"HTTP/1.1 200 OK\r\nX: ".to_vec()), Step::Flood(vec![b'y'; 4096])],
            ENDLESS_HEADER,
        ),
        bad(
            "reason-without-end",
            [Step::Send(b"HTTP/1.1 200 ".to_vec()), Step::Flood(vec![b'y'; 4096])],
            ENDLESS_HEADER,
        ),
        bad("obs-fold", header("X: a\r\n  b"), NO_HTTP),
        bad("header-without-colon", header("X"), NO_HTTP),
        bad("header-without-name", header(": x"), NO_HTTP),
        bad("space-before-the-colon", header("X : y"), NO_HTTP),
        bad("nul-in-a-header", header("X: a\0b"), NO_HTTP),
        right(
            "bytes-in-a-header",
            [b"HTTP/1.1 200 OK\r\nX: \xff\xfe\xe4\r\n".to_vec(), head("Content-Length: LENGTH")].concat(),
        ),
        right("cookies", header("Set-Cookie: a=b\r\nSet-Cookie: c=d")),
    ]
}
