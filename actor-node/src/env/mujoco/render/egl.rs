//! OpenGL without a window, through EGL. EGL draws on a graphics card, or on CPUs with Mesa.
//!
//! The displays are tried in this order: one for each graphics device, Mesa's surfaceless display, the default display.
//! The first display on which a context can be created is used. This display is opened once and never closed, because
//! closing it would destroy the contexts of all environments in the process. MuJoCo draws to its own buffers, so a
//! context needs no surface.
#![expect(unsafe_code, reason = "the functions of EGL")]

use super::library::{Library, function};
use std::ffi::{CStr, c_char, c_void};
use std::ptr::null_mut;

const NAMES: &[&CStr] = &[c"libEGL.so.1", c"libEGL.so"];

type Handle = *mut c_void;
type GetPlatformDisplay = unsafe extern "C" fn(u32, Handle, *const i32) -> Handle;
type QueryDevices = unsafe extern "C" fn(i32, *mut Handle, *mut i32) -> u32;

const OPENGL_API: u32 = 0x30A2;
const PLATFORM_DEVICE: u32 = 0x313F;
const PLATFORM_SURFACELESS: u32 = 0x31DD;
const DEVICES_MAX: usize = 32;

/// Pairs of an attribute and its minimum value, then a terminator. The pairs require 8 bits per colour, a depth of 24
/// bits, a stencil of 8 bits, OpenGL, and surfaces in memory.
#[rustfmt::skip]
const CONFIG: [i32; 17] = [
    0x3024, 8,   0x3023, 8,   0x3022, 8,   0x3021, 8,
    0x3025, 24,  0x3026, 8,   0x3040, 8,   0x3033, 1,
    0x3038,
];

/// EGL with an open display.
#[derive(Debug)]
pub(super) struct Egl {
    functions: Functions,
    display: Handle,
    config: Handle,
}

// SAFETY: handles and functions of EGL may be used from any thread.
unsafe impl Send for Egl {}
// SAFETY: as above; EGL locks its displays.
unsafe impl Sync for Egl {}

#[derive(Debug)]
struct Functions {
    get_proc_address: unsafe extern "C" fn(*const c_char) -> Handle,
    get_error: unsafe extern "C" fn() -> i32,
    get_display: unsafe extern "C" fn(Handle) -> Handle,
    initialize: unsafe extern "C" fn(Handle, *mut i32, *mut i32) -> u32,
    bind_api: unsafe extern "C" fn(u32) -> u32,
    choose_config: unsafe extern "C" fn(Handle, *const i32, *mut Handle, i32, *mut i32) -> u32,
    create_context: unsafe extern "C" fn(Handle, Handle, Handle, *const i32) -> Handle,
    make_current: unsafe extern "C" fn(Handle, Handle, Handle, Handle) -> u32,
    destroy_context: unsafe extern "C" fn(Handle, Handle) -> u32,
}

impl Functions {
    fn of(library: &Library) -> Result<Self, String> {
        // SAFETY: the signatures match EGL 1.4.
        unsafe {
            Ok(Self {
                get_proc_address: library.function(c"eglGetProcAddress")?,
                get_error: library.function(c"eglGetError")?,
                get_display: library.function(c"eglGetDisplay")?,
                initialize: library.function(c"eglInitialize")?,
                bind_api: library.function(c"eglBindAPI")?,
                choose_config: library.function(c"eglChooseConfig")?,
                create_context: library.function(c"eglCreateContext")?,
                make_current: library.function(c"eglMakeCurrent")?,
                destroy_context: library.function(c"eglDestroyContext")?,
            })
        }
    }

    /// Returns the displays to try, best first. None of them is open yet.
    fn displays(&self) -> Vec<Handle> {
        // SAFETY: the signatures match EGL_EXT_platform_base and EGL_EXT_device_enumeration; the array has the stated
        // length.
        let mut displays = unsafe {
            let platform_display: Option<GetPlatformDisplay> =
                function((self.get_proc_address)(c"eglGetPlatformDisplayEXT".as_ptr()));
            let query_devices: Option<QueryDevices> =
                function((self.get_proc_address)(c"eglQueryDevicesEXT".as_ptr()));
            let (mut devices, mut count) = ([null_mut(); DEVICES_MAX], 0);
            if let Some(query) = query_devices {
                query(32, devices.as_mut_ptr(), &raw mut count);
            }
            platform_display.map_or_else(Vec::new, |display| {
                let count = usize::try_from(count).unwrap_or(0).min(DEVICES_MAX);
                let of_devices = devices[..count].iter().map(|&device| (PLATFORM_DEVICE, device));
                let all = of_devices.chain([(PLATFORM_SURFACELESS, null_mut())]);
                all.map(|(platform, device)| display(platform, device, std::ptr::null())).collect()
            })
        };
        // SAFETY: null means the default display.
        displays.push(unsafe { (self.get_display)(null_mut()) });
        displays.retain(|display| !display.is_null());
        displays
    }

    /// Opens a display and returns a configuration for its contexts.
    fn open(&self, display: Handle) -> Result<Handle, String> {
        let (mut config, mut found) = (null_mut(), 0);
        // SAFETY: the display is one of EGL's; the attribute list is terminated; there is room for the one requested
        // configuration.
        let done = unsafe {
            (self.initialize)(display, null_mut(), null_mut()) != 0
                && (self.choose_config)(
                    display,
                    CONFIG.as_ptr(),
                    &raw mut config,
                    1,
                    &raw mut found,
                ) != 0
        };
        if done && found > 0 { Ok(config) } else { Err(self.error("no display with OpenGL")) }
    }

    fn error(&self, what: &str) -> String {
        // SAFETY: reads the error number of this thread's last call.
        format!("{what} (error {:#x})", unsafe { (self.get_error)() })
    }
}

impl Egl {
    /// Opens the first display on which a context can be created, and makes EGL visible to MuJoCo.
    ///
    /// # Errors
    /// Returns an error if the library is missing, or if no display works.
    pub(super) fn open() -> Result<Self, String> {
        let library = Library::open(NAMES)?;
        let functions = Functions::of(&library)?;
        let mut egl = Self { functions, display: null_mut(), config: null_mut() };
        let mut reason = "it has no display".to_owned();
        for display in egl.functions.displays() {
            let tried = egl.functions.open(display).and_then(|config| {
                (egl.display, egl.config) = (display, config);
                let context = egl.create()?;
                let made_current = egl.make_current(context);
                egl.release();
                egl.destroy(context);
                made_current
            });
            match tried {
                Ok(()) => {
                    library.publish();
                    return Ok(egl);
                }
                Err(failure) => reason = failure,
            }
        }
        Err(reason)
    }

    fn create(&self) -> Result<Handle, String> {
        // SAFETY: the display is open, and the configuration belongs to it. No attributes means OpenGL's compatibility
        // profile.
        let context = unsafe {
            (self.functions.bind_api)(OPENGL_API);
            (self.functions.create_context)(self.display, self.config, null_mut(), std::ptr::null())
        };
        if context.is_null() { Err(self.functions.error("no context")) } else { Ok(context) }
    }

    fn make_current(&self, context: Handle) -> Result<(), String> {
        if self.switch(context) { Ok(()) } else { Err(self.functions.error("no current context")) }
    }

    /// Leaves this thread without a current context.
    fn release(&self) {
        self.switch(null_mut());
    }

    fn switch(&self, context: Handle) -> bool {
        let Functions { bind_api, make_current, .. } = &self.functions;
        // SAFETY: `context` belongs to this display, or is null. If it is null, no context is current afterwards.
        unsafe {
            bind_api(OPENGL_API);
            make_current(self.display, null_mut(), null_mut(), context) != 0
        }
    }

    fn destroy(&self, context: Handle) {
        // SAFETY: created by `create`, destroyed once.
        unsafe { (self.functions.destroy_context)(self.display, context) };
    }
}

/// A context of one renderer.
#[derive(Debug)]
pub(super) struct Context {
    egl: &'static Egl,
    context: Handle,
}

impl Context {
    /// Creates a context.
    ///
    /// # Errors
    /// Returns an error if the driver cannot create one.
    pub(super) fn new(egl: &'static Egl) -> Result<Self, String> {
        Ok(Self { egl, context: egl.create()? })
    }
}

impl super::Context for Context {
    fn make_current(&mut self) -> Result<(), String> {
        self.egl.make_current(self.context)
    }

    fn release(&self) {
        self.egl.release();
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        self.egl.destroy(self.context);
    }
}
