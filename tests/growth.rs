//! What thousands of takeovers leave behind in the process that makes them.

use lab::growth;
use lab::uwsgi::Uwsgi;

/// `make soak` runs ten times as many, on each uWSGI.
#[test]
fn a_thousand_takeovers_leave_nothing_behind() {
    println!("{}", growth::of(Uwsgi::Debian, 1000).unwrap_or_else(|figures| panic!("{figures}")));
}
