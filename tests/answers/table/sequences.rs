//! What takes more than one request, or must not.

use super::*;

pub fn sequences() -> Vec<Sequence> {
    let found = Ok("confirmed by a check of the route, after ");
    let again = Ok("HTTP 200, after ");
    let seq = |name, first: Play, then: &[Play], asked, post| {
        let row = Row { post, ..right(name, first) };
        Sequence { row, then: then.into(), asked }
    };
    let close = || Play::from([]);
    let here = || Play::from(here());
    let open = |bytes: Vec<u8>| Play::from([Step::Send(bytes), Step::KeepOpen]);
    let open_elsewhere = || open(active(r#""2.2.2.2""#));
    // On a connection that is just being closed, the POST that follows at once would be lost.
    let elsewhere = || Play::from(active(r#""2.2.2.2""#));
    let third = || Play::from(active(r#""3.3.3.3""#));
    let nowhere = || Play::from(active("null"));
    let error = |status, code| Play::from(error(status, code, ""));
    let half = || Step::Send(head("HTTP/1.1 200 OK\r\nContent-Length: 999"));
    let handshake = |steps: &[Step]| Play { shake: Shake::Blind, steps: steps.into() };
    let lost = |name, first: Play| seq(name, first, &[here()], "PG", found);
    let refused = |name, first: Play, line| seq(name, first, &[here()], "P", Err(line));
    let blind = |name, look: Play, line| seq(name, close(), &[look, here()], "PG", Err(line));
    let (failed, locked) = (|| error(500, "FAILOVER_FAILED"), || error(409, "FAILOVER_LOCKED"));
    vec![
        lost("lost-then-here", close()),
        lost("reset-then-here", [Step::Reset].into()),
        lost("hang-then-here", [Step::Hang].into()),
        lost("half-then-here", [half()].into()),
        lost("html-then-here", html("502 Bad Gateway").into()),
        lost("no-http-then-here", b"garbage\n\n".to_vec().into()),
        lost(
            "endless-then-here",
            [Step::Send(head("HTTP/1.1 200 OK")), Step::Flood(vec![b' '; 8192])].into(),
        ),
        // The POST was sent whole: what becomes of its answer says nothing of the switch.
        lost("bad-record-then-here", [half(), Step::Raw(record(23, &[7; 40]))].into()),
        lost("plain-text-then-here", [half(), Step::Raw(vec![b'x'; 40])].into()),
        lost("alert-then-here", [half(), Step::Raw(alert(80))].into()),
        lost("alert-instead-of-an-answer", [Step::Raw(alert(80))].into()),
        lost("plain-text-instead-of-an-answer", [Step::Raw(html("400 Bad Request"))].into()),
        // Here, and here to stay? Another POST is told.
        seq(
            "locked-then-settled",
            locked(),
            &[here(), error(409, "FAILOVER_ALREADY_ROUTED")],
            "PGP",
            Ok("HTTP 409 FAILOVER_ALREADY_ROUTED, after "),
        ),
        seq("locked-then-here", locked(), &[elsewhere(), here()], "PGG", found),
        seq("locked-then-moved", locked(), &[third(), elsewhere(), here()], "PGGP", again),
        seq("failed-then-again", failed(), &[elsewhere(), here()], "PGP", again),
        seq("half-way-then-nowhere", error(500, "FAILOVER_NOT_COMPLETE"), &[nowhere(), here()], "PGP", again),
        seq("elsewhere-then-again", elsewhere(), &[elsewhere(), here()], "PGP", again),
        seq("maintenance-then-here", error(503, "X"), &[error(503, "X"), here()], "PGG", found),
        seq("look-is-no-object", close(), &[ok("{}").into(), here()], "PGG", found),
        // Nothing was sent yet, so there is nothing to look for.
        seq("alert-in-the-handshake-then-here", handshake(&[Step::Raw(alert(80))]), &[here()], "P", again),
        seq("cut-in-the-handshake-then-here", handshake(&[]), &[here()], "P", again),
        seq("hang-in-the-handshake-then-here", handshake(&[Step::Hang]), &[here()], "P", again),
        seq("old-tls-then-here", handshake(&[Step::Raw(server_hello(1))]), &[here()], "P", again),
        // What comes unasked on a connection that stays open is no answer to the next request.
        seq(
            "unasked-answer",
            open([active(r#""2.2.2.2""#), active(r#""1.1.1.1""#)].concat()),
            &[elsewhere()],
            "PGPGPG",
            Err("HTTP 200, but it is routed to 2.2.2.2; it is routed to 2.2.2.2, after 3 attempts"),
        ),
        seq("connection-used-again", open_elsewhere(), &[here()], "PG", found),
        seq(
            "connection-reset-when-used-again",
            open_elsewhere(),
            &[[Step::Reset].into(), here()],
            "PGG",
            found,
        ),
        seq(
            "three-posts",
            failed(),
            &[elsewhere(), failed(), elsewhere(), failed(), elsewhere()],
            "PGPGPG",
            Err(
                "HTTP 500 FAILOVER_FAILED \"a message\": the switch failed; it is routed to 2.2.2.2, after 3 attempts",
            ),
        ),
        refused("refused-400", error(400, "INVALID_INPUT"), "HTTP 400 INVALID_INPUT "),
        refused("refused-401", error(401, "UNAUTHORIZED"), "HTTP 401 UNAUTHORIZED "),
        refused("refused-403", error(403, "X"), "HTTP 403 X "),
        refused("refused-403-html", html("403 Forbidden").into(), "HTTP 403 with an HTML page"),
        refused("refused-404", error(404, "NOT_FOUND"), "HTTP 404 NOT_FOUND "),
        refused("refused-302", redirect("302 Found", "https://TRAP/").into(), "HTTP 302, a redirect to "),
        blind("look-is-401", error(401, "UNAUTHORIZED"), "HTTP 401 UNAUTHORIZED "),
        // The switch may yet be made, and another POST is the last resort: the looks until then are held back.
        seq("look-is-403", close(), &[error(403, "RATE_LIMIT_EXCEEDED"), here()], "PGP", again),
        seq(
            "look-is-403-and-so-is-the-post",
            close(),
            &[error(403, "RATE_LIMIT_EXCEEDED"), error(403, "RATE_LIMIT_EXCEEDED")],
            "PGP",
            Err("HTTP 403 RATE_LIMIT_EXCEEDED "),
        ),
        blind("look-is-404", error(404, "NOT_FOUND"), "HTTP 404 NOT_FOUND "),
        blind("look-is-302", redirect("302 Found", "/").into(), "HTTP 302, a redirect to /: not followed"),
        Sequence {
            row: certificate(
                "refused-certificate",
                Certificate::Expired,
                "TLS with HOST failed: its certificate has expired",
            ),
            then: vec![here()],
            asked: "",
        },
    ]
}
