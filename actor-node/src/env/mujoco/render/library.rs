//! Optional libraries, which are opened at run time. They are never closed, because graphics drivers do not support
//! that.
#![expect(unsafe_code, reason = "functions of libraries that are not linked")]

use std::ffi::{CStr, c_int, c_void};
use std::mem::{size_of, transmute_copy};

/// An opened library.
#[derive(Debug)]
pub(super) struct Library {
    name: &'static CStr,
    handle: *mut c_void,
}

// SAFETY: the handle is the loader's handle of the library. It is the same for all threads and is never closed.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

impl Library {
    /// Opens the first library of `names` that can be loaded. Other libraries do not see its symbols before
    /// [`Library::publish`].
    ///
    /// # Errors
    /// Returns the loader's reason for the first name.
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

    /// Makes the library's symbols visible to lookups in the whole process. MuJoCo finds its OpenGL functions by such
    /// lookups.
    pub(super) fn publish(&self) {
        let flags: c_int = libc::RTLD_NOW | libc::RTLD_GLOBAL | libc::RTLD_NOLOAD;
        // SAFETY: the library is already loaded. This call only changes the visibility of its symbols.
        unsafe { libc::dlopen(self.name.as_ptr(), flags) };
    }

    /// Returns the function of this name.
    ///
    /// # Errors
    /// Returns an error if there is no such function.
    ///
    /// # Safety
    /// `F` must be a function pointer type that matches the library's function.
    pub(super) unsafe fn function<F: Copy>(&self, name: &CStr) -> Result<F, String> {
        // SAFETY: the handle is valid.
        let address = unsafe { libc::dlsym(self.handle, name.as_ptr()) };
        // SAFETY: guaranteed by the caller.
        unsafe { function(address) }.ok_or_else(last_error)
    }
}

/// Returns the function at `address`, or `None` if the address is null.
///
/// # Safety
/// `F` must be a function pointer type that matches the function at the address.
pub(super) unsafe fn function<F: Copy>(address: *mut c_void) -> Option<F> {
    const { assert!(size_of::<F>() == size_of::<*mut c_void>(), "a function pointer") };
    // SAFETY: the pointers have equal size, and the caller guarantees the type.
    (!address.is_null()).then(|| unsafe { transmute_copy(&address) })
}

/// Returns the reason why the loader's last call on this thread failed.
fn last_error() -> String {
    // SAFETY: returns null or a text that is valid until the thread's next call of the loader.
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        return "not found".into();
    }
    // SAFETY: not null, and a C string as stated above.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
