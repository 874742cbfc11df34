//! [`Gif`]: writes an animated GIF frame by frame. Each frame has its own palette of 256 colours.

use super::VideoFile;
use super::partial::Partial;
use actor_node::draw::Frame;
use anyhow::Context as _;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

/// Speed of the colour quantisation for frames with more than 256 colours, from 1 (best) to 30 (fastest).
const SPEED: i32 = 10;
/// Shortest delay of a frame, in hundredths of a second. Browsers replace a shorter delay by a tenth of a second.
const DELAY_MIN: u16 = 2;

/// An animated GIF that repeats forever.
pub struct Gif {
    path: PathBuf,
    partial: Partial,
    state: State,
    /// Difference between the requested and the written display time so far, in seconds. GIF delays are whole
    /// hundredths of a second, so the difference is carried over to the next frame.
    owed: f64,
}

/// State of the file. The header contains the frame size, so the header is written with the first frame.
enum State {
    Empty(Box<BufWriter<fs_err::File>>),
    Begun(Box<gif::Encoder<BufWriter<fs_err::File>>>),
    Failed,
}

impl std::fmt::Debug for Gif {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Gif({})", self.path.display())
    }
}

impl Gif {
    /// Creates the file under a temporary name.
    ///
    /// # Errors
    /// Returns an error if the file cannot be created.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        let partial = Partial::new(path);
        let file = BufWriter::new(fs_err::File::create(partial.at())?);
        Ok(Self { path: path.to_owned(), partial, state: State::Empty(Box::new(file)), owed: 0.0 })
    }

    /// Returns the delay of a frame in hundredths of a second. Rounding errors are carried over, so that the film has
    /// the right total length.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
    fn delay(&mut self, seconds: f64) -> u16 {
        let wanted = seconds + self.owed;
        let delay =
            ((100.0 * wanted).round().clamp(0.0, f64::from(u16::MAX)) as u16).max(DELAY_MIN);
        self.owed = wanted - f64::from(delay) / 100.0;
        delay
    }
}

impl VideoFile for Gif {
    fn push(&mut self, frame: &Frame) -> anyhow::Result<()> {
        let side =
            |pixels: u32| u16::try_from(pixels).context("a GIF has at most 65535 pixels a side");
        let (width, height) = (side(frame.width)?, side(frame.height)?);
        let mut encoder = match std::mem::replace(&mut self.state, State::Failed) {
            State::Begun(encoder) => encoder,
            State::Empty(file) => {
                let mut encoder = gif::Encoder::new(*file, width, height, &[])?;
                encoder.set_repeat(gif::Repeat::Infinite)?;
                Box::new(encoder)
            }
            State::Failed => anyhow::bail!("{}: an earlier frame failed", self.path.display()),
        };
        let mut picture = gif::Frame::from_rgb_speed(width, height, &frame.rgb, SPEED);
        picture.delay = self.delay(frame.seconds);
        encoder.write_frame(&picture).with_context(|| self.path.display().to_string())?;
        self.state = State::Begun(encoder);
        Ok(())
    }

    fn finish(self: Box<Self>) -> anyhow::Result<()> {
        let Self { path, partial, state, .. } = *self;
        let State::Begun(encoder) = state else {
            anyhow::bail!("{}: there is no frame in it", path.display());
        };
        encoder.into_inner()?.flush()?;
        Ok(partial.keep()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_keep_their_colours_and_together_last_as_long_as_they_should() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.gif");
        let mut film = Box::new(Gif::create(&path).unwrap());
        let frame = |shade: u8| Frame {
            width: 3,
            height: 2,
            rgb: (0..18).map(|i| shade + i).collect(),
            seconds: 1.0 / 30.0,
        };
        for shade in 0..30 {
            film.push(&frame(shade)).unwrap();
        }
        film.finish().unwrap();
        let mut options = gif::DecodeOptions::new();
        options.set_color_output(gif::ColorOutput::RGBA);
        let mut decoder = options.read_info(fs_err::File::open(&path).unwrap()).unwrap();
        assert_eq!((decoder.width(), decoder.height()), (3, 2));
        let (mut delays, mut shade) = (0, 0);
        while let Some(read) = decoder.read_next_frame().unwrap() {
            let rgb: Vec<u8> = read.buffer.chunks(4).flat_map(|p| p[..3].to_vec()).collect();
            assert_eq!(rgb, frame(shade).rgb, "frame {shade}");
            (delays, shade) = (delays + read.delay, shade + 1);
        }
        assert_eq!((shade, delays), (30, 100), "30 frames, 1 second");
    }

    #[test]
    fn a_film_that_fails_leaves_no_file_and_takes_none_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.gif");
        let frame =
            |width| Frame { width, height: 1, rgb: vec![0; 3 * width as usize], seconds: 0.1 };
        for kept in [None, Some("an earlier film")] {
            kept.inspect(|text| std::fs::write(&path, text).unwrap());
            let mut film = Box::new(Gif::create(&path).unwrap());
            film.push(&frame(3)).unwrap();
            film.push(&frame(70_000)).unwrap_err();
            drop(film);
            Box::new(Gif::create(&path).unwrap()).finish().unwrap_err();
            assert_eq!(std::fs::read_to_string(&path).ok().as_deref(), kept);
            let files = std::fs::read_dir(dir.path()).unwrap().count();
            assert_eq!(files, usize::from(kept.is_some()), "nothing else is left");
        }
    }
}
