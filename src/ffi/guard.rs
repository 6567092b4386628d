//! What stands inside every exported function: no panic leaves it, no forked child enters it, and
//! errors become codes.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::error::{sessionstore_error, SESSIONSTORE_OK};
use crate::{Error, ErrorCode};

/// An object behind a handle. After a panic in one of its calls it answers `PANIC` to all others.
pub(super) struct Guarded<T> {
    object: T,
    poisoned: AtomicBool,
}

impl<T> Guarded<T> {
    pub(super) fn new(object: T) -> Guarded<T> {
        Guarded { object, poisoned: AtomicBool::new(false) }
    }

    /// The object, for calls on another one that use it too.
    pub(super) fn usable(&self) -> Result<&T, Error> {
        if self.poisoned.load(Ordering::Acquire) {
            return Err(ErrorCode::Panic.into());
        }
        Ok(&self.object)
    }

    /// The object, for getters that cannot fail.
    pub(super) fn get(&self) -> &T {
        &self.object
    }
}

/// Runs a call that has no object.
pub(super) fn call(error_out: *mut *mut sessionstore_error, body: impl FnOnce() -> Result<(), Error>) -> i32 {
    finish(error_out, run(body))
}

/// Runs a call on an object.
#[inline]
pub(super) fn call_on<T>(
    handle: Option<&Guarded<T>>,
    error_out: *mut *mut sessionstore_error,
    body: impl FnOnce(&T) -> Result<(), Error>,
) -> i32 {
    finish(error_out, run_on(handle, body))
}

#[inline]
fn run_on<T>(handle: Option<&Guarded<T>>, body: impl FnOnce(&T) -> Result<(), Error>) -> Result<(), Error> {
    let Some(handle) = handle else { return run(|| Err(missing())) };
    let object = handle.usable()?;
    let outcome = run(|| body(object));
    if outcome.as_ref().is_err_and(|error| error.code() == ErrorCode::Panic) {
        handle.poisoned.store(true, Ordering::Release);
    }
    outcome
}

#[cold]
fn missing() -> Error {
    Error::new(ErrorCode::NullArgument, "the object is NULL")
}

#[inline]
fn run(body: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
    if forked() {
        return Err(ErrorCode::Forked.into());
    }
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| Err(ErrorCode::Panic.into()))
}

#[inline]
fn finish(error_out: *mut *mut sessionstore_error, outcome: Result<(), Error>) -> i32 {
    let (code, error) = match outcome {
        Ok(()) => (SESSIONSTORE_OK, std::ptr::null_mut()),
        Err(error) => failed(error, !error_out.is_null()),
    };
    if !error_out.is_null() {
        // SAFETY: not NULL, and the caller gave it as the place of one pointer.
        unsafe { error_out.write(error) };
    }
    code
}

/// The code of an error, and its object where it is wanted.
#[cold]
fn failed(error: Error, wanted: bool) -> (i32, *mut sessionstore_error) {
    let code = error.code().number();
    let object = if wanted { Box::into_raw(Box::new(sessionstore_error::new(error))) } else { std::ptr::null_mut() };
    (code, object)
}

/// Sets a handle output to NULL, where it is one: it stays so if the call fails.
pub(super) fn clear<T>(out: *mut *mut T) {
    if !out.is_null() {
        // SAFETY: not NULL, and the caller gave it as the place of one pointer.
        unsafe { out.write(std::ptr::null_mut()) };
    }
}

/// Refuses a missing place for an output, before anything is done.
pub(super) fn needed<T>(what: &'static str, out: *mut T) -> Result<(), Error> {
    if out.is_null() {
        return Err(Error::new(ErrorCode::NullArgument, format!("{what} is NULL")));
    }
    Ok(())
}

/// Gives a handle that is counted by reference.
#[inline]
pub(super) fn give_arc<T>(object: Arc<T>, out: *mut *mut T) -> Result<(), Error> {
    needed("the place for the handle", out)?;
    // SAFETY: not NULL, and the caller gave it as the place of one pointer.
    unsafe { out.write(Arc::into_raw(object).cast_mut()) };
    Ok(())
}

/// Gives a handle with one owner.
pub(super) fn give_box<T>(object: T, out: *mut *mut T) -> Result<(), Error> {
    needed("the place for the handle", out)?;
    // SAFETY: not NULL, and the caller gave it as the place of one pointer.
    unsafe { out.write(Box::into_raw(Box::new(object))) };
    Ok(())
}

/// Runs a getter, which answers with a default instead of an error.
pub(super) fn getter<T>(default: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(default)
}

/// Runs a release. In a forked child it does nothing: the object belongs to the parent's threads,
/// and is left alone.
pub(super) fn release(body: impl FnOnce()) {
    if !forked() {
        let _ = catch_unwind(AssertUnwindSafe(body));
    }
}

/// Whether this process was forked from one that had used the library.
///
/// On Linux a page of memory tells: it is marked to be wiped in children, so that a look at it
/// costs no system call. Elsewhere the process id is compared.
#[inline]
pub(super) fn forked() -> bool {
    static MARK: OnceLock<Mark> = OnceLock::new();
    MARK.get_or_init(Mark::set).is_wiped()
}

enum Mark {
    #[cfg(target_os = "linux")]
    Page(usize),
    Process(u32),
}

impl Mark {
    fn set() -> Mark {
        #[cfg(target_os = "linux")]
        if let Some(page) = wiped_on_fork() {
            return Mark::Page(page);
        }
        Mark::Process(std::process::id())
    }

    fn is_wiped(&self) -> bool {
        match self {
            #[cfg(target_os = "linux")]
            // SAFETY: the page stays mapped for the life of the process and is only read.
            Mark::Page(page) => unsafe { std::ptr::read_volatile(*page as *const u8) == 0 },
            Mark::Process(id) => *id != std::process::id(),
        }
    }
}

/// A page that holds a 1 here and zeroes in children (`MADV_WIPEONFORK`, Linux 4.14).
#[cfg(target_os = "linux")]
fn wiped_on_fork() -> Option<usize> {
    const BYTES: usize = 4_096;
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: asks for new memory and touches no other; what is written lies within it.
    unsafe {
        let page = libc::mmap(std::ptr::null_mut(), BYTES, access, kind, -1, 0);
        if page == libc::MAP_FAILED {
            return None;
        }
        if libc::madvise(page, BYTES, libc::MADV_WIPEONFORK) != 0 {
            libc::munmap(page, BYTES);
            return None;
        }
        page.cast::<u8>().write(1);
        Some(page as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_code_and_poisons_its_object_only() {
        let (one, other) = (Guarded::new(1), Guarded::new(2));
        let mut error = std::ptr::null_mut();
        let panic = ErrorCode::Panic.number();
        assert_eq!(call_on(Some(&one), &mut error, |_| panic!("planted")), panic);
        assert!(!error.is_null());
        // SAFETY: the error was just given to us.
        unsafe { super::super::error::sessionstore_error_free(error) };
        assert_eq!(call_on(Some(&one), std::ptr::null_mut(), |_| Ok(())), panic);
        assert_eq!(call_on(Some(&other), std::ptr::null_mut(), |_| Ok(())), SESSIONSTORE_OK);
        assert_eq!(getter(7, || panic!("planted")), 7);
    }

    #[test]
    fn a_missing_object_is_an_error_that_says_so() {
        let code = call_on(None::<&Guarded<()>>, std::ptr::null_mut(), |()| Ok(()));
        assert_eq!(code, ErrorCode::NullArgument.number());
    }
}
