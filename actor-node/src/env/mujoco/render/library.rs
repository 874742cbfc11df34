//! Libraries that may be missing: opened while the program runs, and never closed, which graphics drivers do not survive.
#![expect(unsafe_code, reason = "functions of libraries that are not linked")]

use std::ffi::{CStr, c_int, c_void};
use std::mem::{size_of, transmute_copy};

/// A library that was found.
#[derive(Debug)]
pub(super) struct Library {
    name: &'static CStr,
    handle: *mut c_void,
}

// SAFETY: the handle is the loader's number for the library; it is the same for all threads and is never closed.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

impl Library {
    /// The first of `names` that can be loaded; its symbols are not seen by other libraries before [`Library::publish`].
    ///
    /// # Errors
    /// The loader's reason for the first name.
    pub(super) fn open(names: &[&'static CStr]) -> Result<Self, String> {
        let mut first_reason = None;
        for &name in names {
            // SAFETY: runs the library's initialisers, which are those of the system's graphics libraries.
            let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
            if !handle.is_null() {
                return Ok(Self { name, handle });
            }
            first_reason.get_or_insert_with(last_error);
        }
        Err(first_reason.unwrap_or_default())
    }

    /// Lets libraries that ask the whole process for a symbol find this one's: MuJoCo looks for its OpenGL that way.
    pub(super) fn publish(&self) {
        let flags: c_int = libc::RTLD_NOW | libc::RTLD_GLOBAL | libc::RTLD_NOLOAD;
        // SAFETY: the library is loaded already; this changes who sees it.
        unsafe { libc::dlopen(self.name.as_ptr(), flags) };
    }

    /// The function of that name.
    ///
    /// # Errors
    /// There is none.
    ///
    /// # Safety
    /// `F` is the type of a function pointer, and that of the library's function.
    pub(super) unsafe fn function<F: Copy>(&self, name: &CStr) -> Result<F, String> {
        // SAFETY: the handle is valid.
        let address = unsafe { libc::dlsym(self.handle, name.as_ptr()) };
        // SAFETY: the caller's promise.
        unsafe { function(address) }.ok_or_else(last_error)
    }
}

/// The function at `address`, if that is not null.
///
/// # Safety
/// `F` is the type of a function pointer, and that of the function there.
pub(super) unsafe fn function<F: Copy>(address: *mut c_void) -> Option<F> {
    const { assert!(size_of::<F>() == size_of::<*mut c_void>(), "a function pointer") };
    // SAFETY: pointers of equal size, and the caller's promise.
    (!address.is_null()).then(|| unsafe { transmute_copy(&address) })
}

/// Why the loader's last call on this thread failed.
fn last_error() -> String {
    // SAFETY: returns null or a text that lives until the next call of the loader on this thread.
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        return "not found".into();
    }
    // SAFETY: not null, and a C string as said above.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
