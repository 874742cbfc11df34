//! [`Mp4`]: sends frames through a pipe to `ffmpeg`, which writes the file.

use super::VideoFile;
use super::partial::Partial;
use actor_node::draw::Frame;
use anyhow::{Context as _, bail};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Name of the program.
const FFMPEG: &str = "ffmpeg";

/// An MP4 file that `ffmpeg` writes.
#[derive(Debug)]
pub struct Mp4 {
    path: PathBuf,
    partial: Partial,
    /// The running `ffmpeg`. `None` before the first frame, which determines the frame size and rate.
    ffmpeg: Option<Child>,
}

impl Mp4 {
    /// Creates the film. Checks that `ffmpeg` is installed, but starts it only with the first frame.
    ///
    /// # Errors
    /// Returns an error if `ffmpeg` is not on the PATH.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        let mut asked = Command::new(FFMPEG);
        asked.arg("-version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if asked.status().is_err() {
            bail!(
                "--video {}: {FFMPEG} is not on the PATH: install it, or write {} instead, which needs nothing",
                path.display(),
                path.with_extension("gif").display()
            );
        }
        Ok(Self { path: path.to_owned(), partial: Partial::new(path), ffmpeg: None })
    }

    fn start(&self, frame: &Frame) -> anyhow::Result<Child> {
        let size = format!("{}x{}", frame.width, frame.height);
        let rate = format!("{:.4}", 1.0 / frame.seconds);
        let mut command = Command::new(FFMPEG);
        command.args(["-loglevel", "error", "-y", "-f", "rawvideo", "-pixel_format", "rgb24"]);
        command.args(["-video_size", &size, "-framerate", &rate, "-i", "pipe:0", "-an"]);
        // Players expect 4:2:0 chroma subsampling, which needs an even width and height.
        command.args(["-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-pix_fmt", "yuv420p"]);
        command.args(["-movflags", "+faststart", "-f", "mp4"]).arg(self.partial.at());
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().context("start ffmpeg")
    }

    /// Closes the pipe and waits until `ffmpeg` exits. If it failed, the error contains the last line of its messages.
    fn end(&mut self) -> anyhow::Result<()> {
        let Some(mut child) = self.ffmpeg.take() else { return Ok(()) };
        drop(child.stdin.take());
        let mut said = Vec::new();
        if let Some(mut stderr) = child.stderr.take() {
            stderr.read_to_end(&mut said)?;
        }
        let status = child.wait()?;
        if !status.success() {
            let said = String::from_utf8_lossy(&said);
            let last = said.lines().last().unwrap_or("it said nothing");
            bail!("{}: {FFMPEG} failed, {status}: {last}", self.path.display());
        }
        Ok(())
    }
}

impl VideoFile for Mp4 {
    fn push(&mut self, frame: &Frame) -> anyhow::Result<()> {
        if self.ffmpeg.is_none() {
            self.ffmpeg = Some(self.start(frame)?);
        }
        let stdin = self.ffmpeg.as_mut().and_then(|child| child.stdin.as_mut());
        let stdin = stdin.expect("a pipe until the end");
        if let Err(error) = stdin.write_all(&frame.rgb) {
            // `ffmpeg` has exited, and its message is more useful than the error of the pipe.
            self.end()?;
            return Err(error).with_context(|| format!("write frames to {FFMPEG}"));
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> anyhow::Result<()> {
        if self.ffmpeg.is_none() {
            bail!("{}: there is no frame in it", self.path.display());
        }
        self.end()?;
        Ok(self.partial.keep()?)
    }
}

impl Drop for Mp4 {
    /// Stops `ffmpeg` if the film was not finished.
    fn drop(&mut self) {
        if let Some(mut child) = self.ffmpeg.take() {
            // The process may have exited already, so errors are ignored.
            drop(child.kill());
            drop(child.wait());
        }
    }
}
