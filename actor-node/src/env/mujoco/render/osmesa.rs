//! OpenGL without a window, through OSMesa. OSMesa is the variant of Mesa that draws in memory. It is used if there is
//! no EGL.
#![expect(unsafe_code, reason = "the functions of OSMesa")]

use super::library::Library;
use std::ffi::{CStr, c_void};
use std::ptr::null_mut;

const NAMES: &[&CStr] = &[c"libOSMesa.so.8", c"libOSMesa.so.6", c"libOSMesa.so"];

const RGBA: u32 = 0x1908;
const UNSIGNED_BYTE: u32 = 0x1401;
/// Side length in pixels of the buffer that a context must have. MuJoCo draws to buffers of its own, not to this one.
const SIDE: i32 = 16;
const BUFFER_BYTES: usize = 16 * 16 * 4;

type Handle = *mut c_void;

/// Functions of the OSMesa library.
#[derive(Debug)]
pub(super) struct Osmesa {
    create: unsafe extern "C" fn(u32, i32, i32, i32, Handle) -> Handle,
    make_current: unsafe extern "C" fn(Handle, *mut c_void, u32, i32, i32) -> u8,
    destroy: unsafe extern "C" fn(Handle),
}

impl Osmesa {
    /// Opens the library and makes it visible to MuJoCo.
    ///
    /// # Errors
    /// Returns an error if the library or one of its functions is missing.
    pub(super) fn open() -> Result<Self, String> {
        let library = Library::open(NAMES)?;
        // SAFETY: the signatures match OSMesa 4 and later.
        let found = unsafe {
            Self {
                create: library.function(c"OSMesaCreateContextExt")?,
                make_current: library.function(c"OSMesaMakeCurrent")?,
                destroy: library.function(c"OSMesaDestroyContext")?,
            }
        };
        library.publish();
        Ok(found)
    }
}

/// A context of one renderer.
#[derive(Debug)]
pub(super) struct Context {
    osmesa: &'static Osmesa,
    context: Handle,
    buffer: Box<[u8; BUFFER_BYTES]>,
}

impl Context {
    /// Creates a context.
    ///
    /// # Errors
    /// Returns an error if the library cannot create one.
    pub(super) fn new(osmesa: &'static Osmesa) -> Result<Self, String> {
        // SAFETY: a depth of 24 bits, a stencil of 8 bits, and no state shared with another context.
        let context = unsafe { (osmesa.create)(RGBA, 24, 8, 0, null_mut()) };
        if context.is_null() {
            return Err("OSMesa made no context".into());
        }
        Ok(Self { osmesa, context, buffer: Box::new([0; BUFFER_BYTES]) })
    }
}

impl super::Context for Context {
    fn make_current(&mut self) -> Result<(), String> {
        let buffer = self.buffer.as_mut_ptr().cast();
        // SAFETY: the buffer holds SIDE by SIDE pixels of four bytes and lives as long as the context.
        let done =
            unsafe { (self.osmesa.make_current)(self.context, buffer, UNSIGNED_BYTE, SIDE, SIDE) };
        if done == 0 { Err("OSMesa made no context current".into()) } else { Ok(()) }
    }

    fn release(&self) {
        // SAFETY: null context and null buffer mean that nothing is current on this thread.
        unsafe { (self.osmesa.make_current)(null_mut(), null_mut(), 0, 0, 0) };
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: created by `new`, destroyed once.
        unsafe { (self.osmesa.destroy)(self.context) };
    }
}
