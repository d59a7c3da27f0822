//! Connections that do not do what they should, and TLS that is none.

use super::*;

/// What a connection does when it does not do what it should.
pub fn sockets() -> Vec<Row> {
    let whole = here();
    let cut = |at: usize| Step::Send(whole[..at].to_vec());
    let in_head = 30;
    let in_body = whole.len() - 10;
    let pause = Duration::from_millis(250);
    vec![
        bad("close", [], BROKEN),
        bad("close-in-the-head", [cut(in_head)], BROKEN),
        bad("close-after-the-head", [cut(whole.len() - body().len())], BROKEN),
        bad("close-in-the-body", [cut(in_body)], BROKEN),
        bad("cut-in-the-body", [cut(in_body), Step::Cut], BROKEN),
        bad("reset", [Step::Reset], BROKEN),
        bad("reset-in-the-head", [cut(in_head), Step::Reset], BROKEN),
        bad("reset-in-the-body", [cut(in_body), Step::Reset], BROKEN),
        bad("hang", [Step::Hang], LATE),
        bad("hang-in-the-head", [cut(in_head), Step::Hang], LATE),
        bad("hang-after-the-head", [cut(whole.len() - body().len()), Step::Hang], LATE),
        bad("hang-in-the-body", [cut(in_body), Step::Hang], LATE),
        bad(
            "hang-in-the-chunks",
            [Step::Send(chunked(|length| format!("{length:x}"), "")), Step::Hang],
            LATE,
        ),
        bad("hang-without-length", [Step::Send(head("HTTP/1.1 200 OK")), Step::Hang], LATE),
        bad("trickle", [Step::Trickle(whole.clone(), pause)], LATE),
        bad(
            "trickle-in-the-body",
            [cut(whole.len() - body().len()), Step::Trickle(body().into(), pause)],
            LATE,
        ),
        right("byte-by-byte", [Step::Trickle(whole.clone(), Duration::ZERO)]),
        right("hang-after-the-answer", [Step::Send(whole.clone()), Step::Hang]),
        right(
            "says-close-and-hangs",
            [Step::Send(answer("200 OK", "Connection: close\r\n", body())), Step::Hang],
        ),
        right("garbage-after-the-answer", [whole, b"garbage".to_vec()].concat()),
    ]
}

/// TLS, and what is none.
pub fn handshakes() -> Vec<Row> {
    let tls = |name, bytes: Vec<u8>, line| bad(name, [Step::Raw(bytes)], line).https().shake(Shake::Blind);
    let head = Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n{\"failover\"".to_vec());
    vec![
        certificate(
            "expired",
            Certificate::Expired,
            "TLS with HOST failed: its certificate has expired: check this machine's clock",
        ),
        certificate(
            "not-yet-valid",
            Certificate::NotYetValid,
            "TLS with HOST failed: its certificate is not valid yet: check this machine's clock",
        ),
        certificate(
            "other-host",
            Certificate::OtherHost,
            "TLS with HOST failed: its certificate is for another host: check url",
        ),
        certificate(
            "self-signed",
            Certificate::SelfSigned,
            "TLS with HOST failed: its certificate is from an unknown issuer: ",
        ),
        certificate(
            "unknown-issuer",
            Certificate::UnknownIssuer,
            "TLS with HOST failed: its certificate is from an unknown issuer: check ca-certificates and SSL_CERT_FILE",
        ),
        certificate(
            "other-purpose",
            Certificate::OtherPurpose,
            "TLS with HOST failed: its certificate is not accepted: ",
        ),
        tls(
            "alert-handshake-failure",
            alert(40),
            "TLS with HOST failed: received fatal alert: HandshakeFailure",
        ),
        tls(
            "alert-protocol-version",
            alert(70),
            "TLS with HOST failed: received fatal alert: ProtocolVersion",
        ),
        tls("alert-internal-error", alert(80), "TLS with HOST failed: received fatal alert: InternalError"),
        tls("tls-1.0", server_hello(1), OLD_TLS),
        tls("tls-1.1", server_hello(2), OLD_TLS),
        tls("tls-1.2-with-a-cipher-of-1998", server_hello(3), "TLS with HOST failed: peer misbehaved: "),
        tls("plain-http", here(), NO_TLS),
        tls("plain-400", html("400 Bad Request"), NO_TLS),
        tls("ssh-on-the-tls-port", b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n".to_vec(), NO_TLS),
        tls("nuls-in-the-handshake", vec![0; 64], NO_TLS),
        tls("record-too-long", [22, 3, 3, 0xff, 0xff].to_vec(), NO_TLS),
        tls("half-a-record", record(22, &[2; 40])[..20].to_vec(), NOTHING_SENT),
        tls("close-in-the-handshake", vec![], NOTHING_SENT),
        bad("close-at-once", [], NOTHING_SENT).https().shake(Shake::AtOnce),
        bad("reset-in-the-handshake", [Step::Reset], NOTHING_SENT).https().shake(Shake::Blind),
        bad("hang-in-the-handshake", [Step::Hang], "HOST: no connection within ")
            .late()
            .https()
            .shake(Shake::Blind),
        // A record of a handshake that would take minutes.
        bad(
            "trickle-in-the-handshake",
            [Step::Trickle(
                record(22, &[&[2, 0, 15, 0][..], &[7; 4000]].concat()),
                Duration::from_millis(40),
            )],
            "HOST: no connection within ",
        )
        .late()
        .https()
        .shake(Shake::Blind),
        bad(
            "bad-record-in-the-answer",
            [head.clone(), Step::Raw(record(23, &[7; 40]))],
            "TLS with HOST failed: ",
        )
        .https(),
        bad(
            "plain-text-in-the-answer",
            [head.clone(), Step::Raw(b"1234567890123456789012345678901234567890".to_vec())],
            "TLS with HOST failed: ",
        )
        .https(),
        bad("alert-in-the-answer", [head, Step::Raw(alert(80))], "TLS with HOST failed: ").https(),
        bad("tls-on-the-plain-port", [Step::Raw(alert(10))], NO_HTTP).http().shake(Shake::Blind),
        bad("ssh-at-once", [Step::Raw(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n".to_vec())], NO_HTTP)
            .http()
            .shake(Shake::AtOnce),
        bad("close-before-the-request", [], BROKEN).http().shake(Shake::AtOnce),
    ]
}
