//! As which user a check runs: as the one that uWSGI will be when it serves, because that one has to read the password
//! file then, and runs the checks of its Legions.

use super::report::{Mark, Step};
use crate::uwsgi;

/// Becomes the user that uWSGI will be, and says which one that is.
pub fn judges() -> Step {
    let named = |uid: u32| match uwsgi::user_name(uid) {
        Some(name) => format!("uid {uid} ({name})"),
        None => format!("uid {uid}"),
    };
    let (now, now_gid) = uwsgi::user();
    let to_be = uwsgi::user_to_be().unwrap_or(now);
    // Before the root changes: inside a chroot the system's list of users is not there.
    let (now_named, to_be_named) = (named(now), named(to_be));
    let place = uwsgi::chroot().map_or_else(String::new, |root| format!(", in chroot {}", root.display()));
    if let Err(why) = uwsgi::become_user() {
        return Step(Mark::Error, format!("uWSGI will not start: {why}"));
    }
    let (uid, gid) = uwsgi::user();
    if uid == to_be {
        return Step(Mark::Ok, format!("checked as {to_be_named}, gid {gid}{place}, as uWSGI will run"));
    }
    let text = format!("checked as {now_named}, gid {now_gid}, but uWSGI will run as {to_be_named}");
    Step(Mark::Warning, format!("{text}: what that user can read is unknown; run this check as root"))
}
