//! Gives back the memory that the start, a takeover or a look has needed.

use std::array;
use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::{PF_W, PT_LOAD, dl_phdr_info};

/// No page is smaller, and madvise() wants the start of one; of a larger one it says that it is none.
const PAGE: usize = 4096;

/// Whether something is done that has needed memory.
static WANTED: AtomicBool = AtomicBool::new(false);

/// Has memory given back within seconds. Not at once: it would cost a takeover time.
pub fn give_back_soon() {
    WANTED.store(true, Ordering::Relaxed);
}

/// Gives memory back where that is due. Called about once a second.
///
/// What of this library is in memory as it is on disk is unmapped: for each page that runs the kernel maps sixteen, and
/// a few functions here and there make that nearly all of the library. What is needed again is mapped again, from the
/// page cache. And malloc returns what it holds but does not use.
pub fn give_back_if_due() {
    if !WANTED.swap(false, Ordering::Relaxed) {
        return;
    }
    #[cfg(target_env = "gnu")]
    // SAFETY: any thread may call it at any time.
    unsafe {
        libc::malloc_trim(0);
    }
    let mut places = Places::default();
    // SAFETY: calls back once for each library that is loaded, before it returns, with what is passed here.
    unsafe { libc::dl_iterate_phdr(Some(note_if_it_is_ours), (&raw mut places).cast()) };
    // Only now: while it calls back, the loader holds a lock that a child of a fork at that moment would wait for.
    for place in places.into_iter().flatten() {
        let page = place.start & !(PAGE - 1);
        // SAFETY: pages of ours that nobody ever writes, so that they can be read from the file again at any time.
        unsafe { libc::madvise(page as *mut c_void, place.end - page, libc::MADV_DONTNEED) };
    }
}

/// The parts of this library that are only read. No linker makes more of them.
type Places = [Option<Range<usize>>; 4];

unsafe extern "C" fn note_if_it_is_ours(info: *mut dl_phdr_info, _: usize, places: *mut c_void) -> c_int {
    // SAFETY: the loader passes a library's place and its segments, which stay as they are while it is loaded.
    let (base, segments) = unsafe {
        let info = &*info;
        let segments = std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum));
        (info.dlpi_addr as usize, segments)
    };
    let loaded = || {
        let segments = segments.iter().filter(|segment| segment.p_type == PT_LOAD);
        segments.map(|segment| {
            let start = base + segment.p_vaddr as usize;
            (start..start + segment.p_memsz as usize, segment.p_flags & PF_W != 0)
        })
    };
    let this = give_back_if_due as *const () as usize;
    if !loaded().any(|(place, _)| place.contains(&this)) {
        return 0;
    }
    let mut kept = loaded().filter(|(_, is_written)| !is_written).map(|(place, _)| place);
    // SAFETY: what the caller has passed, and nobody else uses.
    unsafe { *places.cast::<Places>() = array::from_fn(|_| kept.next()) };
    1
}
