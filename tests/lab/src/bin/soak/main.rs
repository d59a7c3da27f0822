//! `make soak`: whether the plugin leaves anything behind in the uWSGI that runs it, and touches only what is its own.
//!
//! `growth` counts what a process holds after thousands of takeovers, `memcheck` has valgrind look at every access.

mod memcheck;

use std::process::ExitCode;
use std::{env, panic, thread};

use lab::growth;
use lab::process::{interrupted, watch_for_ctrl_c};
use lab::uwsgi::Uwsgi;

fn main() -> ExitCode {
    watch_for_ctrl_c();
    let takeovers = match env::args().nth(1).map(|text| text.parse::<usize>()) {
        None => 10_000,
        Some(Ok(takeovers)) if takeovers > growth::FIRST => takeovers,
        Some(_) => {
            eprintln!("soak [TAKEOVERS]: expected a number above {}", growth::FIRST);
            return ExitCode::from(2);
        }
    };
    let good = thread::scope(|scope| {
        let run = |uwsgi| {
            // Both, whatever becomes of the first.
            let parts: [Part; 2] = [&|| growth::of(uwsgi, takeovers), &|| memcheck::of(uwsgi)];
            parts.map(|part| say(uwsgi, part)) == [true; 2]
        };
        let runs = Uwsgi::ALL.map(|uwsgi| scope.spawn(move || run(uwsgi)));
        runs.map(|run| run.join().unwrap_or(false)) == [true; 2]
    });
    if interrupted() {
        println!("Interrupted.");
    }
    if good && !interrupted() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Says in one sentence what was found, or what is wrong.
type Part<'a> = &'a dyn Fn() -> Result<String, String>;

/// Prints what `part` says; returns whether it is as it should be.
fn say(uwsgi: Uwsgi, part: Part) -> bool {
    if interrupted() {
        return false;
    }
    let found = panic::catch_unwind(panic::AssertUnwindSafe(part));
    match found.unwrap_or_else(|_| Err("this program has panicked; see above".into())) {
        Ok(sentence) => println!("uWSGI {uwsgi}: {sentence}"),
        Err(sentence) => {
            println!("uWSGI {uwsgi}: FAILED: {sentence}");
            return false;
        }
    }
    true
}
