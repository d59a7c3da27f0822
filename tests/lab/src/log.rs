//! A log that is a pipe, as under a service manager, whose reader can stop reading: then whoever logs is held up.
//!
//! What has come through it stands in a file, as with a log that is one.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::process;

/// How often what has come in is read.
const PAUSE: Duration = Duration::from_millis(20);
/// What the pipe is filled up with, since no log holds it; the reader leaves it out.
const FILLER: u8 = 0;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reader {
    Reads,
    Sleeps,
    /// What is still there is the last that it reads.
    Ends,
}

/// The reading side. On drop it reads what is left, and ends.
pub struct PipedLog {
    reader: Arc<Mutex<Reader>>,
    from: File,
    thread: Option<JoinHandle<()>>,
}

impl PipedLog {
    /// A pipe whose content goes to the end of `file`; returns the end to write into too.
    pub fn to(file: File) -> io::Result<(PipedLog, OwnedFd)> {
        let (read_end, write_end) = process::pipe()?;
        // Only this end must not block, and it does not share its flags with the other.
        let from = reopened(&read_end, File::options().read(true))?;
        let reader = Arc::new(Mutex::new(Reader::Reads));
        let (state, mut to, mut pipe) = (Arc::clone(&reader), file, from.try_clone()?);
        let thread = thread::spawn(move || {
            loop {
                // Locked while it reads, so that it is not between two thoughts when it is put to sleep.
                let state = state.lock().unwrap_or_else(PoisonError::into_inner);
                let read = if *state == Reader::Sleeps { Ok(0) } else { pass_on(&mut pipe, &mut to) };
                let ends = *state == Reader::Ends;
                drop(state);
                match read {
                    Ok(1..) => continue,
                    _ if ends => return,
                    _ => thread::sleep(PAUSE),
                }
            }
        });
        Ok((PipedLog { reader, from, thread: Some(thread) }, write_end))
    }

    fn reader(&self) -> MutexGuard<'_, Reader> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on nothing is read, and the pipe is full, so that the next line holds up whoever logs it.
    pub fn block(&self) {
        let mut reader = self.reader();
        *reader = Reader::Sleeps;
        // Nobody can fill it whose process is gone.
        let Ok(mut pipe) = reopened(&self.from, File::options().write(true)) else { return };
        // What is left of the last page has room for single bytes only.
        for chunk in [&[FILLER; 4096][..], &[FILLER]] {
            while pipe.write(chunk).is_ok() {}
        }
    }

    /// Reads on where [`PipedLog::block`] has stopped.
    pub fn read_on(&self) {
        *self.reader() = Reader::Reads;
    }
}

impl Drop for PipedLog {
    fn drop(&mut self) {
        *self.reader() = Reader::Ends;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Another descriptor of the same pipe, which does not block.
fn reopened(pipe: &impl AsRawFd, how: &mut std::fs::OpenOptions) -> io::Result<File> {
    how.custom_flags(libc::O_NONBLOCK).open(format!("/proc/self/fd/{}", pipe.as_raw_fd()))
}

/// Reads what is there, once; returns how much that was.
fn pass_on(pipe: &mut File, to: &mut File) -> io::Result<usize> {
    let mut chunk = [0; 65_536];
    let length = match pipe.read(&mut chunk) {
        Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(1),
        other => other?,
    };
    let text: Vec<u8> = chunk[..length].iter().copied().filter(|byte| *byte != FILLER).collect();
    to.write_all(&text)?;
    Ok(length)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::mpsc::{self, RecvTimeoutError};

    use super::*;
    use crate::{LIMIT, wait_until};

    #[test]
    fn a_blocked_log_holds_up_who_logs_and_loses_nothing() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("log");
        let log = || fs::read_to_string(&path).expect("UTF-8");
        let (pipe, write_end) = PipedLog::to(File::create(&path).expect("writable")).expect("a pipe");
        let mut writer = File::from(write_end);
        writer.write_all(b"one\n").expect("it is read");
        assert!(wait_until(LIMIT, || log() == "one\n"));

        pipe.block();
        let (done, is_done) = mpsc::channel();
        let writing = thread::spawn(move || {
            writer.write_all(b"two\n").expect("it is read in the end");
            done.send(()).expect("somebody waits");
            writer
        });
        assert_eq!(is_done.recv_timeout(Duration::from_millis(200)), Err(RecvTimeoutError::Timeout));
        assert_eq!(log(), "one\n");
        pipe.read_on();
        is_done.recv_timeout(LIMIT).expect("it is read now");
        assert!(wait_until(LIMIT, || log() == "one\ntwo\n"));

        // What is written last is read, too, though the pipe was blocked until its end.
        let mut writer = writing.join().expect("no panic");
        writer.write_all(b"three\n").expect("it is read");
        drop(writer);
        pipe.block();
        drop(pipe);
        assert_eq!(log(), "one\ntwo\nthree\n");
    }
}
