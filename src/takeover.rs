//! One takeover: asks the hoster for the route, decides, and says each step in one line.

use std::net::IpAddr;
use std::time::Instant;

use crate::hoster::Hoster;

/// Routes `ip` to `target`. Returns whether it is routed there now; `log` gets the steps.
pub fn take_over(hoster: &dyn Hoster, ip: IpAddr, target: IpAddr, log: &dyn Fn(&str)) -> bool {
    log(&format!("routing {ip} to {target} ({})", hoster.describe()));
    let start = Instant::now();
    let verdict = hoster.route_to(target);
    let seconds = start.elapsed().as_secs_f64();
    match &verdict {
        Ok(answer) => log(&format!("{ip} is routed to {target} ({answer}, after {seconds:.1} s)")),
        Err(failure) => {
            log(&format!("FAILED to route {ip} to {target}: {} (after {seconds:.1} s)", failure.sentence));
        }
    }
    verdict.is_ok()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::hoster::Failure;

    struct Fake(Result<String, Failure>);

    impl Hoster for Fake {
        fn describe(&self) -> String {
            "by a fake".into()
        }

        fn route_to(&self, target: IpAddr) -> Result<String, Failure> {
            assert_eq!(target, IpAddr::from([1, 1, 1, 1]));
            match &self.0 {
                Ok(answer) => Ok(answer.clone()),
                Err(failure) => Err(Failure::new(failure.sentence.clone())),
            }
        }
    }

    #[track_caller]
    fn check(answer: Result<String, Failure>, routed: bool, last_line: &str) {
        let lines = RefCell::new(Vec::new());
        let log = |line: &str| lines.borrow_mut().push(line.to_string());
        let found = take_over(&Fake(answer), [4, 4, 4, 4].into(), [1, 1, 1, 1].into(), &log);
        assert_eq!(found, routed);
        assert_eq!(lines.into_inner(), ["routing 4.4.4.4 to 1.1.1.1 (by a fake)", last_line]);
    }

    #[test]
    fn says_each_step_in_one_line() {
        check(Ok("HTTP 200".into()), true, "4.4.4.4 is routed to 1.1.1.1 (HTTP 200, after 0.0 s)");
        check(
            Err(Failure::new("connection refused")),
            false,
            "FAILED to route 4.4.4.4 to 1.1.1.1: connection refused (after 0.0 s)",
        );
    }
}
