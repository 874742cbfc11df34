//! Pictures of the tasks by MuJoCo's own renderer, without a window. OpenGL comes from EGL, or from OSMesa if EGL is
//! missing. The library is opened when the first picture is drawn, so training needs neither EGL nor OSMesa.
//!
//! Pictures have Gymnasium's default size. The camera is the model's camera `track`, which follows the body
//! (Gymnasium's `camera_name="track"`). If a model has no such camera, the free camera is used, with Gymnasium's
//! distances. The free camera looks at the median position of the model's geoms at the time of the first picture.
//!
//! | module | contents |
//! |---|---|
//! | `egl`, `osmesa` | OpenGL contexts |
//! | `library` | libraries opened at run time |
#![expect(
    unsafe_code,
    reason = "MuJoCo's renderer belongs to the context of OpenGL that is current"
)]

mod egl;
mod library;
mod osmesa;

use super::{INVERTED_PENDULUM, PUSHER};
use crate::draw::Frame;
use crate::env::EnvError;
use mujoco_rs::wrappers::mj_data::MjData;
use mujoco_rs::wrappers::mj_model::{MjModel, MjtObjBase};
use mujoco_rs::wrappers::mj_rendering::{MjrContext, MjrRectangle};
use mujoco_rs::wrappers::mj_visualization::{MjvCamera, MjvOption, MjvPerturb, MjvScene};
use std::sync::{Arc, OnceLock};

/// Width and height in pixels: Gymnasium's default.
const SIDE: u32 = 480;
const PIXELS: usize = 480 * 480;
/// Maximum number of geoms in a picture: Gymnasium's default.
const GEOMS_MAX: usize = 1000;
const CAMERA: &str = "track";
const TO_INSTALL: &str = "libegl1 and libgl1-mesa-dri, or libosmesa6 (Debian's names)";

/// OpenGL library of this process. There is only one, because MuJoCo looks up the OpenGL functions once and keeps them.
static OPENGL: OnceLock<Result<OpenGl, String>> = OnceLock::new();

#[derive(Debug)]
enum OpenGl {
    Egl(egl::Egl),
    Osmesa(osmesa::Osmesa),
}

impl OpenGl {
    fn find() -> Result<Self, String> {
        let no_egl = match egl::Egl::open() {
            Ok(egl) => return Ok(Self::Egl(egl)),
            Err(reason) => reason,
        };
        osmesa::Osmesa::open().map(Self::Osmesa).map_err(|no_osmesa| {
            format!("no EGL ({no_egl}) and no OSMesa ({no_osmesa}): install {TO_INSTALL}")
        })
    }

    fn context(&'static self) -> Result<Box<dyn Context>, String> {
        Ok(match self {
            Self::Egl(egl) => Box::new(egl::Context::new(egl)?),
            Self::Osmesa(osmesa) => Box::new(osmesa::Context::new(osmesa)?),
        })
    }
}

/// An OpenGL context, for one thread at a time.
trait Context: std::fmt::Debug {
    /// Makes the context current on this thread.
    fn make_current(&mut self) -> Result<(), String>;

    /// Leaves this thread without a current context.
    fn release(&self);
}

/// Renderer of one environment.
pub(super) struct Renderer {
    /// MuJoCo's rendering context. [`Drop`] drops it while `opengl` is current.
    context: Option<MjrContext>,
    scene: MjvScene,
    camera: MjvCamera,
    opengl: Box<dyn Context>,
}

// SAFETY: MuJoCo's context belongs to the OpenGL context that was current when it was created, not to a thread. That
// OpenGL context is current only within `new`, `picture` and `drop`, which have exclusive access to the renderer. The
// scene is plain memory.
unsafe impl Send for Renderer {}

impl std::fmt::Debug for Renderer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Renderer({:?})", self.opengl)
    }
}

impl Renderer {
    /// Creates a renderer of the environment `env`, whose model and current state are in `data`.
    ///
    /// # Errors
    /// Returns an error if this machine has no OpenGL. The message names the packages to install.
    pub(super) fn new(env: &str, data: &MjData<Arc<MjModel>>) -> Result<Self, EnvError> {
        let failed = |reason: &String| EnvError::Failed(format!("{env}: no picture: {reason}"));
        let opengl = OPENGL.get_or_init(OpenGl::find).as_ref().map_err(failed)?;
        let mut opengl = opengl.context().map_err(|reason| failed(&reason))?;
        opengl.make_current().map_err(|reason| failed(&reason))?;
        let model = data.model();
        // SAFETY: the OpenGL context is current now, and also whenever MuJoCo's context is used or dropped.
        let mut context = unsafe { MjrContext::new(model) };
        let global = &model.vis().global;
        let side = |model_side: i32| u32::try_from(model_side).unwrap_or(0).max(SIDE);
        context.resize_offscreen(side(global.offwidth), side(global.offheight));
        context.offscreen();
        opengl.release();
        let scene = MjvScene::new(model, GEOMS_MAX);
        Ok(Self { context: Some(context), scene, camera: camera(env, data), opengl })
    }

    /// Draws the state in `data` as a picture that is shown for `seconds`. Drawing changes nothing that a step depends
    /// on.
    ///
    /// # Errors
    /// Returns an error if the driver failed.
    pub(super) fn picture(
        &mut self,
        data: &mut MjData<Arc<MjModel>>,
        seconds: f64,
    ) -> Result<Frame, EnvError> {
        let failed = |reason: String| EnvError::Failed(format!("no picture: {reason}"));
        let context = self.context.as_mut().expect("it is taken by drop alone");
        self.opengl.make_current().map_err(failed)?;
        let (option, perturb) = (MjvOption::default(), MjvPerturb::default());
        self.scene.update(data, &option, &perturb, &mut self.camera);
        let viewport = MjrRectangle::new(0, 0, SIDE.cast_signed(), SIDE.cast_signed());
        self.scene.render(&viewport, context);
        let mut rows_up = vec![0; 3 * PIXELS];
        let read = context.read_pixels(Some(&mut rows_up), None, &viewport);
        self.opengl.release();
        read.map_err(|error| failed(error.to_string()))?;
        let rgb = rows_up.rchunks_exact(3 * SIDE as usize).flatten().copied().collect();
        Ok(Frame { width: SIDE, height: SIDE, rgb, seconds })
    }
}

impl Drop for Renderer {
    fn drop(&mut self) {
        let context = self.context.take();
        match self.opengl.make_current() {
            Ok(()) => {
                drop(context);
                self.opengl.release();
            }
            // No OpenGL context is current, so MuJoCo's own cleanup must not run: it would call OpenGL functions.
            // `forget` skips the cleanup. The driver frees MuJoCo's resources together with the OpenGL context.
            Err(_) => std::mem::forget(context),
        }
    }
}

/// Returns the model's camera that follows the body, or a free camera if the model has no such camera.
fn camera(env: &str, data: &MjData<Arc<MjModel>>) -> MjvCamera {
    let model = data.model();
    if let Some(number) = model.name_to_id(MjtObjBase::mjOBJ_CAMERA, CAMERA) {
        return MjvCamera::new_fixed(number);
    }
    let lookat = [0, 1, 2].map(|axis| median(data.geom_xpos().iter().map(|place| place[axis])));
    let distance = match env {
        PUSHER => 4.0,
        INVERTED_PENDULUM => 2.04,
        _ => model.stat().extent,
    };
    MjvCamera { lookat, distance, ..MjvCamera::default() }
}

/// Returns the median, or 0 if there are no values. The median of an even number of values is the mean of the two
/// middle values.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.as_slice() {
        [] => 0.0,
        sorted => f64::midpoint(sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_half_way_between_two() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 8.0].into_iter()), 3.0);
        assert_eq!(median(std::iter::empty()), 0.0);
    }
}
