//! Pictures of environments, for videos of evaluations.
//!
//! - [`Frame`]: a picture, as returned by `Env::render`.
//! - [`Canvas`]: draws lines and shapes in the environment's own coordinates, on a CPU.
//! - `classic`: drawings of the environments that are simple enough for a canvas.

mod canvas;
pub(crate) mod classic;

pub use canvas::{Canvas, Colour, Point};

/// One picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Red, green and blue of each pixel, shape (height, width, 3), top row first.
    pub rgb: Vec<u8>,
    /// Time for which the picture is shown, in seconds. If the environment has a time step, it is this time step.
    pub seconds: f64,
}

impl Frame {
    /// Creates a frame from an image (height, width) of grey values 0 to 255. Each value becomes a square of `scale` by
    /// `scale` pixels.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bytes, and images of a few thousand pixels"
    )]
    pub(crate) fn of_pixels(grey: &[f32], width: usize, scale: usize, seconds: f64) -> Self {
        let mut rgb = Vec::with_capacity(grey.len() * scale * scale * 3);
        for row in grey.chunks_exact(width) {
            for _ in 0..scale {
                rgb.extend(row.iter().flat_map(|&value| vec![value as u8; 3 * scale]));
            }
        }
        let height = grey.len() / width;
        Self { width: (width * scale) as u32, height: (height * scale) as u32, rgb, seconds }
    }
}
