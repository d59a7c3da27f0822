//! As whom a check judges: who uWSGI will be when it serves, since that is who has to read the password's file then.

use super::report::{Mark, Step};
use crate::uwsgi;

/// Becomes who uWSGI will be, and says who that is.
pub fn judges() -> Step {
    let (to_be, root) = (uwsgi::user_to_be(), uwsgi::chroot());
    let named = |uid: u32| match uwsgi::user_name(uid) {
        Some(name) => format!("uid {uid} ({name})"),
        None => format!("uid {uid}"),
    };
    // The system's list of users is of no use in another root.
    let who_now = |(uid, gid): (u32, u32)| format!("{}, gid {gid}", named(uid));
    let before = uwsgi::user();
    let to_be_named = to_be.map(&named);
    if let Err(why) = uwsgi::become_user() {
        return Step(Mark::Error, format!("uWSGI will not start: {why}"));
    }
    let (uid, gid) = uwsgi::user();
    let place = root.map_or_else(String::new, |root| format!(", in the root {}", root.display()));
    match to_be_named {
        Some(name) if to_be != Some(uid) => Step(
            Mark::Warning,
            format!(
                "checked as {}, but uWSGI is to run as {name}: what that one may read is not known; check as root",
                who_now(before)
            ),
        ),
        Some(name) => Step(Mark::Ok, format!("checked as {name}, gid {gid}{place}, as uWSGI will run")),
        None => Step(Mark::Ok, format!("checked as {}{place}, as uWSGI will run", who_now((uid, gid)))),
    }
}
